"""LangGraph with OpenInference's instrumentation of LangChain: four nodes; the thread is the session."""

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from openinference.instrumentation import using_user
from openinference.instrumentation.langchain import LangChainInstrumentor
from scene import (
    AGENT,
    CUT_OFF,
    FAILING,
    INSTRUCTIONS,
    QUESTION,
    SESSION,
    USER,
    attempt,
    tracer_provider,
    weather,
)

provider = tracer_provider("langgraph-agent")
LangChainInstrumentor().instrument(tracer_provider=provider)


def plan(state: MessagesState) -> MessagesState:
    return {"messages": []}


def check(state: MessagesState) -> MessagesState:
    return {"messages": []}


def run(question: str, *, stream: bool = False) -> None:
    model = ChatOpenAI(model="gpt-4o-mini", streaming=stream, stream_usage=True).bind_tools([weather])

    def think(state: MessagesState) -> MessagesState:
        return {"messages": [model.invoke([("system", INSTRUCTIONS), *state["messages"]])]}

    graph = StateGraph(MessagesState)
    graph.add_node("plan", plan)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([weather], handle_tool_errors=True))
    graph.add_node("check", check)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "tools", END: "check"})
    graph.add_edge("tools", "think")
    graph.add_edge("check", END)
    graph.compile(name=AGENT).invoke(
        {"messages": [("user", question)]}, config={"configurable": {"thread_id": SESSION}}
    )


with using_user(USER):
    run(QUESTION)
    run(CUT_OFF, stream=True)
    attempt(run, FAILING)
provider.shutdown()
