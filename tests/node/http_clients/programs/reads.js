// Reads a row by fetch and by the module http with an agent that keeps connections; reads it once more with an upgrade
// asked for. One argument: the reader's URL. Prints how many answers were right.

const http = require("node:http");

const url = process.argv[2];
const key = JSON.stringify({ Key: [{ Value: 1 }] });

function request(options, body) {
  return new Promise((resolve, reject) => {
    const sent = http.request(url + "/get-row-by-key/fam/tab", options, (answer) => {
      let text = "";
      answer.on("data", (piece) => (text += piece));
      answer.on("end", () => resolve(answer.statusCode === 200 && JSON.parse(text).value === "one"));
    });
    sent.on("upgrade", () => reject(new Error("upgraded")));
    sent.on("error", reject);
    sent.end(body);
  });
}

async function main() {
  let right = 0;
  for (let i = 0; i < 100; i++) {
    const answer = await fetch(url + "/get-row-by-key/fam/tab", { method: "POST", body: key });
    right += (await answer.json()).value === "one";
  }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 100; i++) {
    right += await request({ method: "POST", agent }, key);
  }
  for (let i = 0; i < 100; i++) {
    right += await request({ method: "POST", agent, headers: { connection: "upgrade", upgrade: "h2c" } }, key);
  }
  const changes = await fetch(url + "/changes");
  const piece = await changes.body.getReader().read();
  right += new TextDecoder().decode(piece.value).includes("event: start");
  console.log(right);
  process.exit(0);
}

main();
