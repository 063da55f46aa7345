"""The attack list: programs that reach their end only if an attack worked, and harmless ones."""
