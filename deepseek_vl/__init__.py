"""DeepSeek-VL under the names that configs import, on transformers' own modules."""
