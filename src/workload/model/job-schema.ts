/** The schema of a worker that is a job; see job.ts. */
import { valuesOf } from "../../wire/qapi/index.ts";
import type { Schema } from "./schema.ts";

const policy: Schema = { type: "string", enum: valuesOf("BlockdevOnError") };

/** The schema of a job, given those of sizes and times. */
export function jobSchema({ size, time }: { size: Schema; time: Schema }): Schema {
  return {
    description: "a block job over the disk, in the place of requests",
    type: "object",
    required: ["type"],
    properties: {
      type: { type: "string", enum: ["mirror", "backup", "stream", "commit"] },
      target: {
        description: "of mirror and backup: a path, a URL, or the description of a node; default: memory",
        anyOf: [{ type: "string" }, { type: "object" }],
      },
      sync: { type: "string", enum: ["full", "top", "none"] },
      copyMode: { type: "string", enum: valuesOf("MirrorCopyMode") },
      speed: size,
      onError: policy,
      onSourceError: policy,
      onTargetError: policy,
      whenReady: { type: "string", enum: ["complete", "cancel"] },
      resumeAfter: time,
      resumes: { type: "integer", minimum: 0 },
    },
  };
}
