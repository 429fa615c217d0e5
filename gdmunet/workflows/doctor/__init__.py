"""What a machine has and lacks for gdmunet: findings, each with advice."""
