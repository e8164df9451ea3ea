// The program's verbs on disks in an object store, beside another's server (s3rver, from npm), which checks signatures.
import { describe } from "vitest";
import { ObjectServer } from "./support/s3.ts";
import { verbsBeside } from "./support/s3-verbs.ts";

describe("s3rver", () => verbsBeside(() => ObjectServer.start()));
