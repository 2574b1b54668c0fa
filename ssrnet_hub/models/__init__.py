"""Networks and their weights: SSR-Net and DEX for timm, their fused forms, and the zoo. No photos, no Hub."""
