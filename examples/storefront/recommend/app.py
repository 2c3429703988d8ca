"""What goes well with what is in a cart."""

import json

GOES_WITH = {
    "tea": ["honey", "lemon", "biscuits"],
    "coffee": ["milk", "sugar", "biscuits"],
    "bread": ["butter", "jam", "cheese"],
}
BESTSELLERS = ["biscuits", "honey", "jam"]


def handler(event, context):
    """Answers `GET /recommendations?item=tea`; a plain event may carry `{"item": "tea"}`."""
    http = "requestContext" in event
    item = (event.get("queryStringParameters") or {}).get("item") if http else event.get("item")
    answer = {"item": item, "recommendations": GOES_WITH.get(item, BESTSELLERS)}
    print(f"recommending {len(answer['recommendations'])} items for {item}")
    if not http:
        return answer
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(answer),
    }
