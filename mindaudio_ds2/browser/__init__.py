"""A page that recognises speech in the browser itself: a folder of files, without a server of ours."""
