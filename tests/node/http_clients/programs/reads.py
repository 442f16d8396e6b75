"""Reads a row 300 times over one connection, and once each in other ways, by what Python brings. One argument: the
reader's URL. Prints how many answers were right."""

import http.client
import json
import sys
import urllib.request
from urllib.parse import urlsplit

url = sys.argv[1]
key = json.dumps({"Key": [{"Value": 1}]})
right = 0
connection = http.client.HTTPConnection(urlsplit(url).netloc)
for _ in range(300):
    connection.request("POST", "/get-row-by-key/fam/tab", key)
    answer = connection.getresponse()
    right += answer.status == 200 and json.loads(answer.read())["value"] == "one"
# Generators are sent in chunks.
connection.request("POST", "/get-row-by-key/fam/tab", iter([key.encode()]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
right += connection.getresponse().status == 200
with urllib.request.urlopen(url + "/v1/rows/fam/tab/1") as answer:
    right += json.load(answer)["value"] == "one"
with urllib.request.urlopen(urllib.request.Request(url + "/ping", method="HEAD")) as answer:
    right += answer.read() == b""
print(right)
