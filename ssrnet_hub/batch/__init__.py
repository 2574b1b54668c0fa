"""Many photos: jobs of several processes or a Ray cluster, and the tables that they write."""
