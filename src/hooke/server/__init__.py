"""The local app behind the page: routes, who may ask, one queue of jobs, and results on disk. The only async code."""
