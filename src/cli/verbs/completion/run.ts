/**
 * Completions for bash, zsh and fish, written from the table of options: verbs, the verb's options, the values of an option
 * that has few, and file names for the rest.
 */
import type { OptionEntry, ProgramTable, VerbEntry } from "../../options/table.ts";

/** A word that any shell takes as it stands. */
function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function names({ short, long }: OptionEntry): string[] {
  return [short, long].filter((name) => name !== undefined);
}

function bashVerb({ name, options }: VerbEntry): string {
  const values = options
    .filter(({ value, choices }) => value !== undefined && choices.length > 0)
    .map((option) => `        ${names(option).join("|")}) words=${quote(option.choices.join(" "))} ;;`);
  const files = options
    .filter(({ value, choices }) => value !== undefined && choices.length === 0)
    .flatMap((option) => names(option));
  const lines = files.length > 0 ? [...values, `        ${files.join("|")}) return ;;`] : values;
  const all = options.flatMap((option) => names(option)).join(" ");
  return [
    `    ${name})`,
    `      case "$previous" in`,
    ...lines,
    `        *) [[ "$current" == -* ]] && words=${quote(all)} ;;`,
    "      esac",
    "      ;;",
  ].join("\n");
}

function bash({ verbs, options }: ProgramTable): string {
  const first = [...verbs.map(({ name }) => name), ...options.flatMap((option) => names(option))];
  return `# bash completion of blockwright. To use it: source <(blockwright completion bash)
_blockwright() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD - 1]}" verb="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ "\${COMP_WORDS[i]}" != -* ]]; then verb="\${COMP_WORDS[i]}"; break; fi
  done
  COMPREPLY=()
  case "$verb" in
    "") words=${quote(first.join(" "))} ;;
${verbs.map((verb) => bashVerb(verb)).join("\n")}
  esac
  if [[ -n "$words" ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); fi
}
complete -o default -F _blockwright blockwright
`;
}

function zshOption(option: OptionEntry): string {
  const all = names(option);
  const text = option.description.replaceAll(/[[\]\\]/g, String.raw`\$&`);
  const values = option.choices.length > 0 ? `(${option.choices.join(" ")})` : "_files";
  const value = option.value === undefined ? "" : `:${option.value}:${values}`;
  return all.map((name) => `      ${quote(`*${name}[${text}]${value}`)}`).join(" \\\n");
}

function zsh({ verbs }: ProgramTable): string {
  const described = verbs.map(
    ({ name, description }) => `    ${quote(`${name}:${description.replaceAll(":", String.raw`\:`)}`)}`,
  );
  const cases = verbs.map(({ name, options }) => {
    const lines = [...options.map((option) => zshOption(option)), "      '*:file:_files'"];
    return `    ${name}) _arguments \\\n${lines.join(" \\\n")} ;;`;
  });
  return `#compdef blockwright
# zsh completion of blockwright. To use it: source <(blockwright completion zsh)
_blockwright() {
  local -a verbs
  verbs=(
${described.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _blockwright ]]; then _blockwright "$@"; else compdef _blockwright blockwright; fi
`;
}

function fishOption(verb: string, option: OptionEntry): string {
  const words = ["complete", "-c", "blockwright", "-n", quote(`__fish_seen_subcommand_from ${verb}`)];
  if (option.short !== undefined) words.push("-s", option.short.slice(1));
  if (option.long !== undefined) words.push("-l", option.long.slice(2));
  if (option.value !== undefined) words.push(option.choices.length > 0 ? "-x" : "-r");
  if (option.choices.length > 0) words.push("-a", quote(option.choices.join(" ")));
  return [...words, "-d", quote(option.description)].join(" ");
}

function fish({ verbs }: ProgramTable): string {
  const lines = verbs.flatMap(({ name, description, options }) => [
    `complete -c blockwright -f -n __fish_use_subcommand -a ${name} -d ${quote(description)}`,
    ...options.map((option) => fishOption(name, option)),
  ]);
  return `# fish completion of blockwright. To use it: blockwright completion fish | source\n${lines.join("\n")}\n`;
}

/** The shells that there are completions for. */
export const shells = { bash, zsh, fish } as const;
