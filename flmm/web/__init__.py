"""The page of `flmm web`: talk about pictures, see where words look, hide regions; built on flmm.chat and flmm.api."""
