"""What each page shows: reads by the use cases, and puts together what its template needs."""
