"""Planning tasks: prompt -> answer."""
