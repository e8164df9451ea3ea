/** --chardev against what qemu-storage-daemon 7.2 said to the same command lines. */
import { describe, expect, it } from "vitest";
import { parseChardev } from "../../../../src/wire/qapi/index.ts";

const unix = (path: string): object => ({ type: "unix", path });

describe("--chardev", () => {
  it.each([
    [
      "socket,path=/run/m,server=on,wait=off,id=mon",
      { backend: "socket", id: "mon", address: unix("/run/m"), server: true, wait: false },
    ],
    [
      "socket,id=a,path=/a,,b,server,nowait",
      { backend: "socket", id: "a", address: unix("/a,b"), server: true, wait: false },
    ],
    [
      "socket,id=a,host=localhost,port=4444",
      {
        backend: "socket",
        id: "a",
        address: { type: "inet", host: "localhost", port: 4444 },
        server: false,
        wait: true,
      },
    ],
    ["stdio,id=a", { backend: "stdio", id: "a" }],
    ["backend=stdio,id=a", { backend: "stdio", id: "a" }],
    ["null,id=a", { backend: "null", id: "a" }],
  ])("reads %s", (text, value) => {
    expect(parseChardev(text)).toEqual(value);
  });

  it.each([
    ["", "chardev: no id specified"],
    ["socket", "chardev: no id specified"],
    ["stdio", "chardev: no id specified"],
    ["socket,id=a,path=/run/x,server=maybe,wait=off", "Parameter 'server' expects 'on' or 'off'"],
    ["foo,id=a", "'foo' is not a valid char driver name"],
    ["stdio,id=a,zz=1", "Invalid parameter 'zz'"],
    ["socket,id=a,host=x", "chardev: socket: no port given"],
    [
      "socket,id=1a,path=/x",
      "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    ],
    ["id=a", 'chardev: "a" missing backend'],
    ["file,id=a", "chardev: file: no filename given"],
    ["socket,id=a,path=/x,wait=off", "'wait' option is incompatible with socket in client connect mode"],
    ["null,id=a,mux=x", "Parameter 'mux' expects 'on' or 'off'"],
    ["socket,id=a,path=/x,host=b,port=1", "None or one of 'path', 'fd' or 'host' option required."],
    // Ours: the real program says "Unable to parse FD number" here.
    ["socket,id=a", "None or one of 'path', 'fd' or 'host' option required."],
    ["socket,id=a,host=x,port=70000", "Parameter 'port' expects a port number"],
  ])("refuses %j", (text, refusal) => {
    expect(() => parseChardev(text)).toThrow(
      expect.objectContaining({ name: "QapiError", message: refusal }),
    );
  });
});
