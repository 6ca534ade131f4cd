"""Programs that `cold_start` starts: small ones as people write them, and the handler of ours. They import what they need."""
