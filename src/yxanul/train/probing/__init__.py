"""What a machine is tried for before a first start, and the choices that are then kept."""
