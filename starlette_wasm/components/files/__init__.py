"""Files for components: what ``allowedDirs`` grants, with the rules that preview 1 has."""
