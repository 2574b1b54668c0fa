"""Networks and their weights: SSR-Net and DEX for timm, their fused forms, the zoo. No photos, no Hub."""

# its import has all models registered, which has to be done before any of them is imported on its own
import timm  # noqa: F401
