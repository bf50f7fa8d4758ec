"""Results that leave and come back: tables for anybody, and what others publish."""
