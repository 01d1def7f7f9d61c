"""LLaVA model classes under the names that configs import."""
