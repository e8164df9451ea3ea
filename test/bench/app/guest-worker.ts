// The worker of the benchmarks' pages, as docs/BROWSER.md has it.
import "blockwright/guest-worker";
