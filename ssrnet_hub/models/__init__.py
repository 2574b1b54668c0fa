"""Networks and their weights: SSR-Net and DEX for timm, their fused forms, the zoo. No photos, no Hub."""
