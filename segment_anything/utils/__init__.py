"""What surrounds the model: resizing, automatic mask bookkeeping, export."""
