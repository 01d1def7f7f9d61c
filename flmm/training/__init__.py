"""What the runner uses: strategy, cache, frozen parts, dry run."""
