"""The trained head: U-Net and SAM refiner."""
