"""Live market data: a WebSocket client a vendor, an event bus, and the bars that go from it into the store."""
