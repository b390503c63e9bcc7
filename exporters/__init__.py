"""From a torch module to verified model files: converters, quantizers, the check against torch, and their manifests."""
