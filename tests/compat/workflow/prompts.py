"""Prompts live among the registered models: the same routes, kept out of lists of models."""

from .session import step


def prompt_facts(prompt):
    return [prompt.name, int(prompt.version), prompt.template, prompt.commit_message]


@step
def prompts(session):
    """Register two versions of a prompt, load them by number and alias, move and delete the alias."""
    mlflow, client = session.mlflow, session.client
    api = mlflow.genai if session.major == 3 else mlflow
    first = api.register_prompt("greeting", "Hello {{name}}", commit_message="first", tags={"team": "a"})
    second = api.register_prompt("greeting", "Good day {{name}}", commit_message="second")
    api.set_prompt_alias("greeting", alias="live", version=1)
    by_alias = api.load_prompt("prompts:/greeting@live")
    api.set_prompt_alias("greeting", alias="live", version=2)
    moved = api.load_prompt("prompts:/greeting@live")
    api.delete_prompt_alias("greeting", alias="live")
    return {
        "made": [prompt_facts(first), prompt_facts(second)],
        "loaded": [prompt_facts(api.load_prompt(f"prompts:/greeting/{number}")) for number in (1, 2)],
        "by alias": [prompt_facts(by_alias), prompt_facts(moved)],
        "filled": by_alias.format(name="Ana"),
        "models": [model.name for model in client.search_registered_models("name = 'greeting'")],
        "as a model": session.refused(client.create_registered_model, "greeting"),
        "model as prompt": session.refused(api.register_prompt, "empty", "x"),
    }


@step(majors=(3,))
def search_prompts(session):
    """Prompts are found as prompts, tagged, and deleted."""
    mlflow, client = session.mlflow, session.client
    mlflow.genai.register_prompt("farewell", "Bye {{name}}")
    found = [prompt.name for prompt in mlflow.genai.search_prompts()]
    client.set_prompt_tag("farewell", "tone", "sad")
    client.set_prompt_version_tag("farewell", "1", "checked", "yes")
    tags = [client.get_prompt("farewell").tags, client.get_prompt_version("farewell", "1").tags]
    tags[0].pop("_mlflow_experiment_ids", None)  # written by a thread of the client, some time
    client.delete_prompt_version("farewell", "1")
    client.delete_prompt("farewell")
    return {
        "found": sorted(found),
        "by name": [prompt.name for prompt in mlflow.genai.search_prompts("name = 'greeting'")],
        "versions": [int(prompt.version) for prompt in client.search_prompt_versions("greeting").prompt_versions]
        if hasattr(client.search_prompt_versions("greeting"), "prompt_versions")
        else [int(prompt.version) for prompt in client.search_prompt_versions("greeting")],
        "tags": tags,
        "left": [prompt.name for prompt in mlflow.genai.search_prompts()],
        "unknown": client.get_prompt("farewell"),
    }
