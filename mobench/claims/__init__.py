"""The papers' claims as data (`claims.toml`), the evidence there is for them, and a checker that never mixes it."""
