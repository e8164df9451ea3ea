/**
 * `blockwright backup create|list|verify|restore|prune|cat`: backups that are kept, beside the job `backup SOURCE TARGET`.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { plainFormat } from "../../../drivers/format/defaults.ts";
import type { Keep } from "../../../store/retention.ts";
import { gateFlag, objectFlag, repeatable, size as sizeFlag } from "../../options/flags.ts";
import { addProgressFlag, addQuietFlag, examples } from "../../options/verb-flags.ts";
import type { CreateBackupFlags, PruneFlags, RepoFlags } from "./repo.ts";
import type { RestoreFlags } from "./restore-kept.ts";

function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 1e6)
    throw new InvalidArgumentError("a number from 1 on is expected");
  return value;
}

function level(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 22)
    throw new InvalidArgumentError("a number from 1 to 22 is expected");
  return value;
}

function addRepoFlags(command: Command): Command {
  return addQuietFlag(command)
    .option(
      "--repo <place>",
      "where the backups are: a directory of chunks, s3://BUCKET/KEY, or chain:DIR of plain images",
    )
    .option("--json", "print what was done as JSON")
    .addOption(gateFlag())
    .addOption(objectFlag());
}

const KEEPS = [
  "last",
  "hourly",
  "daily",
  "weekly",
  "monthly",
  "yearly",
] as const satisfies readonly (keyof Keep)[];

type KeepFlags = { readonly [Kind in keyof Keep as `keep${Capitalize<Kind>}`]?: number };

/** The options `--keep-…` as they were given. */
function keepOf(flags: KeepFlags): Keep {
  const given = KEEPS.map((kind) => {
    const name = `keep${kind[0]!.toUpperCase()}${kind.slice(1)}` as keyof KeepFlags;
    return [kind, flags[name]] as const;
  });
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}

/** Adds them to the verb `backup`. */
export function addKeptBackups(backup: Command): void {
  backup.enablePositionalOptions();
  addCreateVerb(backup);
  addRepoFlags(
    backup.command("list").description("list the backups of a repository, the oldest first"),
  ).action(async (flags: RepoFlags) => {
    process.exitCode = await (await import("./repo.ts")).listKept(flags);
  });
  addProgressFlag(
    addRepoFlags(
      backup
        .command("verify")
        .description("read every chunk of the backups and hold it against its hash, without restoring")
        .argument("[id]", "one backup; default: all"),
    ),
  ).action(async (id: string | undefined, flags: RepoFlags) => {
    process.exitCode = await (await import("./repo.ts")).verifyKept(id, flags);
  });
  addRestoreVerb(backup);
  addPruneVerb(backup);
  addRepoFlags(
    backup
      .command("cat")
      .description("write a range of a backup's disk to stdout")
      .argument("<id>", "a backup: its id, the beginning of one, latest, or NAME@latest")
      .argument("<offset>", "where the range begins, bytes (64k, 1M …)")
      .argument("<length>", "bytes of it"),
  ).action(async (id: string, offset: string, length: string, flags: RepoFlags) => {
    process.exitCode = await (await import("./repo.ts")).catKept({ id, offset, length }, flags);
  });
}

function addCreateVerb(backup: Command): void {
  addProgressFlag(
    addRepoFlags(
      backup
        .command("create")
        .description(
          "keep a version of an image that nobody has open, or of a running program's disks, in a repository",
        )
        .argument("[image]", "image file, or json:{…} as for --blockdev")
        .option("-f, --format <format>", "format of the image; default: probed")
        .option("--image-opts", "the image is named by key=value options instead of by a file name")
        .option(
          "--bitmap <name>",
          "a dirty bitmap that records between backups, made if it is not there: only what changed is read",
        )
        .option("--qmp <socket>", "the QMP socket of a running program, QEMU's or ours, instead of an image")
        .addOption(
          new Option(
            "--node <name>",
            "with --qmp: a node of it; again for more, all as of one moment",
          ).argParser(repeatable),
        )
        .option(
          "--nbd <address>",
          "with --qmp: where its NBD server listens, if it runs already: unix:PATH or HOST:PORT",
        )
        .option("--name <name>", "what the disk is called in the repository; default: the path of the image")
        .addOption(
          new Option("--compression-level <level>", "of zstd, 1 … 22 (default: 3)").argParser(level),
        ),
    ),
  )
    .addHelpText("after", examples("backup create --repo /backups disk.qcow2 --bitmap nightly"))
    .action(async (image: string | undefined, flags: CreateBackupFlags) => {
      process.exitCode = await (await import("./repo.ts")).createKept(image, flags);
    });
}

function addRestoreVerb(backup: Command): void {
  addProgressFlag(
    addRepoFlags(
      backup
        .command("restore")
        .description("make an image of a backup")
        .argument("<id>", "a backup: its id, the beginning of one, latest, or NAME@latest")
        .argument("<out>", "the file that is made")
        .option("-O, --target-format <format>", "its format", plainFormat)
        .option("--force", "replace a file that exists")
        .addOption(
          new Option(
            "--seed <image>",
            "an image that may have some of the disk, an older state of it; again for more: what it has is not read from the repository",
          ).argParser(repeatable),
        )
        .option(
          "--live <address>",
          "serve the disk by NBD while it is restored, at unix:PATH or HOST:PORT, until the last client has gone",
        )
        .option("--speed <bytes>", "with --live: most bytes per second (64k, 10M …)", sizeFlag),
    ),
  ).action(async (id: string, out: string, flags: RestoreFlags) => {
    process.exitCode = await (await import("./restore-kept.ts")).restoreKept({ id, out }, flags);
  });
}

function addPruneVerb(backup: Command): void {
  const command = addRepoFlags(
    backup
      .command("prune")
      .description(
        "remove backups that no rule keeps, and what no backup needs; times are UTC, disks count by themselves",
      ),
  ).option("-n, --dry-run", "say what would be removed, and remove nothing");
  for (const kind of KEEPS) {
    const what = kind === "last" ? "the newest" : `the newest of each of the last N that have one, ${kind}`;
    command.addOption(new Option(`--keep-${kind} <n>`, `keep ${what}`).argParser(count));
  }
  command.action(async (flags: PruneFlags & KeepFlags) => {
    process.exitCode = await (await import("./repo.ts")).pruneKept({ ...flags, keep: keepOf(flags) });
  });
}
