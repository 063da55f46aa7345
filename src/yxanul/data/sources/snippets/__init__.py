"""Documentation cut into snippets: title, description, source, language and code that parses."""
