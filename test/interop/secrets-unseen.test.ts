// Secrets never show in what is printed or answered: each way of giving one, with everything that can go wrong around it, and
// the secret is looked for in all output, plain and in base64.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runProcess, runVerb } from "../support/verb-client.ts";
import { inDirectory, must } from "./support/qcow2.ts";

const SECRET = "SeCrEt_tOkEn-77";
const shapes = [SECRET, Buffer.from(SECRET).toString("base64").replace(/=+$/, "")];

/** The secret, as it shows in a text. */
function seen(text: string): string[] {
  return shapes.flatMap((shape) => text.split("\n").filter((line) => line.includes(shape)));
}

const volume = ["--image-opts", "driver=luks,key-secret=s,file.filename=a.luks"];
const object = (words: string): string[] => ["--object", `secret,id=s,${words}`];
const http = (more: string): string[] => [
  "--image-opts",
  `driver=raw,file.driver=http,file.url=http://127.0.0.1:1/x,file.retries=0,${more}`,
];
const places = ["127.0.0.1:1/x", "bad host/", "127.0.0.1:99999/x", "[::1/x", "127.0.0.1:1/x@2"];

const lines: string[][] = [
  ["convert", ...object(`data=${SECRET}`), "-O", "raw", ...volume, "out.raw"],
  ["amend", ...object(`data=${SECRET}`), ...volume, "-o", "state=active,new-secret=s"],
  ["info", ...object(`format=base64,data=${SECRET}`), ...volume],
  ["info", ...object(`data=${SECRET},bogus=1`), ...volume],
  ["info", ...object(`data=${SECRET},file=x`), ...volume],
  ["info", ...object(`data=AAAA,keyid=m,iv=${SECRET}`), ...volume],
  ["info", "--object", `secret,data=${SECRET}`, ...volume],
  ["info", "--object", `secret,id=1bad,data=${SECRET}`, ...volume],
  ["info", "--object", `secre,id=s,data=${SECRET}`, ...volume],
  ["info", "--object", `{"qom-type":"secret","id":"s","data":["${SECRET}"]}`, ...volume],
  ["info", "--object", `{"qom-type":"secret","id":"s","data":"${SECRET}","x":1}`, ...volume],
  ["create", ...object(`data=${SECRET}`), "-f", "luks", "-o", "key-secret=s,cipher-alg=none", "n.luks", "1M"],
  ["info", ...object(`data=${SECRET}`), ...http("file.username=u,file.password-secret=s")],
  ["info", ...object(`data=${SECRET}\n`), ...http("file.cookie-secret=s")],
  ["info", ...http(`file.cookie=${SECRET}`)],
  ["info", ...http(`file.cookie=a=${SECRET},,b=${SECRET},file.cookie-secret=s`)],
  ["info", `json:{"driver":"http","url":"http://127.0.0.1:1/x","cookie":"a\\"${SECRET}","retries":0}`],
  ...["http", "https", "ftp"].flatMap((scheme) =>
    places.flatMap((place) => {
      const url = `${scheme}://user:${SECRET}@${place}`;
      return [
        ["info", url],
        ["info", "--image-opts", `driver=raw,file.driver=http,file.url=${url}`],
        ["info", `json:{"driver":"raw","file":{"driver":"https","url":"${url}"}}`],
        ["create", "-f", "qcow2", "-b", url, "-F", "raw", "z.qcow2"],
        ["convert", "-O", "qcow2", url, "z.qcow2"],
      ];
    }),
  ),
];

test("no verb shows one", () =>
  inDirectory(async (directory) => {
    const created = ["create", "-q", "-f", "luks", "--object", "secret,id=k,data=right"];
    await must("qemu-img", ...created, "-o", "key-secret=k,iter-time=10", join(directory, "a.luks"), "1M");
    for (const words of lines) {
      const { status, stdout, stderr } = runVerb(words, { cwd: directory });
      expect(seen(stdout + stderr), words.join(" ")).toEqual([]);
      expect(status, words.join(" ")).not.toBe(0);
    }
    for (const name of readdirSync(directory))
      expect(seen(readFileSync(join(directory, name), "latin1")), name).toEqual([]);
  }));

test("no answer of the daemon does, and nothing that it prints", () =>
  inDirectory(async (directory) => {
    const created = ["create", "-q", "-f", "luks", "--object", "secret,id=k,data=right"];
    await must("qemu-img", ...created, "-o", "key-secret=k,iter-time=10", join(directory, "a.luks"), "1M");
    const secret = { "qom-type": "secret", id: "s", data: SECRET };
    const base = {
      driver: "http",
      "node-name": "h",
      url: "http://127.0.0.1:1/",
      retries: 0,
      "read-only": true,
    };
    const commands: [string, object?][] = [
      ["qmp_capabilities"],
      ["object-add", { ...secret, bogus: 1 }],
      ["object-add", { ...secret, data: { a: SECRET } }],
      ["object-add", { ...secret, format: "base64" }],
      ["object-add", secret],
      ["object-add", secret],
      ["object-ad", secret],
      [
        "blockdev-add",
        { driver: "luks", "node-name": "n", "key-secret": "s", file: { driver: "file", filename: "a.luks" } },
      ],
      ["blockdev-add", { ...base, username: "u", "password-secret": "s" }],
      ...places.map((place): [string, object] => [
        "blockdev-add",
        { ...base, url: `http://u:${SECRET}@${place}` },
      ]),
      ["blockdev-add", { ...base, size: 1048576, username: "u", "password-secret": "s" }],
      ["query-named-block-nodes"],
      ["query-block"],
      ["quit"],
    ];
    const input = commands
      .map(([execute, args]) => JSON.stringify({ execute, arguments: args ?? {} }))
      .join("\n");
    const words = ["daemon", "--chardev", "stdio,id=m", "--monitor", "chardev=m"];
    const { stdout, stderr } = runProcess(words, { cwd: directory, input: `${input}\n` });
    expect(stdout.match(/"return"/g)?.length).toBeGreaterThanOrEqual(5);
    expect(stdout.match(/"error"/g)?.length).toBeGreaterThanOrEqual(10);
    expect(seen(stdout + stderr)).toEqual([]);
  }));
