"""What the site's pages take from the code: tables, commands, links. Nothing of it is kept in the repository."""
