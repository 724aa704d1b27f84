"""Recognition over HTTP and websockets, with a page for the browser."""
