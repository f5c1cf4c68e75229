"""Run by the real mlflow 3: `mlflow_webhooks.py SERVER RECEIVER` prints one JSON object of what its client saw."""

import json
import sys

import mlflow
from mlflow.entities.webhook import WebhookEvent
from mlflow.exceptions import MlflowException

server, receiver = sys.argv[1:]
mlflow.set_tracking_uri(server)
client = mlflow.MlflowClient()


def shown(webhook):
    return {
        "id": webhook.webhook_id,
        "name": webhook.name,
        "url": webhook.url,
        "events": sorted(str(each) for each in webhook.events),
        "description": webhook.description,
        "status": str(webhook.status),
        "secret": webhook.secret,
    }


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except MlflowException as error:
        return error.error_code
    return None


made = client.create_webhook(
    name="deployments",
    url=receiver + "/200",
    events=["model_version_alias.created", "registered_model.created"],
    description="tells the deployer",
    secret="hush",
)
others = [client.create_webhook(f"other-{number}", receiver + "/404", ["prompt.created"]) for number in range(3)]
page = client.list_webhooks(max_results=2)
rest = client.list_webhooks(max_results=2, page_token=page.token)
test = client.test_webhook(made.webhook_id)
chosen = client.test_webhook(made.webhook_id, event=WebhookEvent.from_str("model_version.created"))
failed = client.test_webhook(others[0].webhook_id)

client.create_registered_model("wine", tags={"team": "cellar"})
changed = client.update_webhook(others[0].webhook_id, name="renamed", status="DISABLED", description="off")
client.delete_webhook(others[1].webhook_id)

print(
    json.dumps(
        {
            "made": shown(made),
            "read": shown(client.get_webhook(made.webhook_id)),
            "pages": [[each.name for each in page], [each.name for each in rest], rest.token or None],
            "test": [test.success, test.response_status, test.response_body],
            "chosen": [chosen.success, chosen.response_status],
            "failed": [failed.success, failed.response_status],
            "changed": shown(changed),
            "deleted": refused(client.get_webhook, others[1].webhook_id),
            "internal": refused(client.create_webhook, "x", "https://127.0.0.1:1/", ["prompt.created"]),
            "name": refused(client.create_webhook, "-x", receiver, ["prompt.created"]),
        }
    )
)
