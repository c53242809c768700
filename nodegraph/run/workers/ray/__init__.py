"""Workers in other processes and on other machines, by Ray."""
