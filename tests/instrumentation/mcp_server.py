"""A tool server over stdio, for the situation `mcp_tools`."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("stations")


@server.tool()
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


if __name__ == "__main__":
    server.run()
