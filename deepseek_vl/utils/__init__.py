"""Conversations and files for DeepSeek-VL."""
