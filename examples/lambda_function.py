"""An AWS Lambda function as it is deployed: it knows nothing of streamflow. `lambda_pipeline.py` runs it."""

import json


def handler(event, context):  # type: ignore[no-untyped-def]  # as people write them
    failures = []
    for record in event["Records"]:
        change = record["dynamodb"]
        try:
            total = change.get("NewImage", {}).get("total", {"N": "0"})["N"]
            print(json.dumps({"id": change["Keys"]["id"]["S"], "event": record["eventName"], "total": float(total)}))
        except (KeyError, ValueError):
            # Everything before this record is done; Lambda sends the rest again, and so does streamflow.
            failures.append({"itemIdentifier": change["SequenceNumber"]})
            break
    print(json.dumps({"left_ms": context.get_remaining_time_in_millis(), "request": context.aws_request_id}))
    return {"batchItemFailures": failures}
