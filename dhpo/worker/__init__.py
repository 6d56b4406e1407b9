"""What runs beside the user's function on a worker, and how function and data get there."""
