package main

import (
	"context"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/vaultcore"
)

// completeCommand is what the shells' scripts call with the words typed so
// far; the last one is being completed.
const completeCommand = "complete-words"

// completePatience bounds what a key press may wait for.
const completePatience = time.Second

func completionCLI(u *ui) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: "bash: source <(vaultdrive completion bash)\nzsh:  source <(vaultdrive completion zsh)\n" +
			"fish: vaultdrive completion fish | source",
		Action: func(cx *cli.Context) error {
			script, ok := completionScripts[cx.Args().First()]
			if !ok || cx.NArg() != 1 {
				return usage("completion takes one shell: bash, zsh or fish")
			}
			u.printf("%s", script)
			return nil
		},
	}
}

func completeCLI(u *ui) *cli.Command {
	return &cli.Command{
		Name: completeCommand, Hidden: true, SkipFlagParsing: true,
		Action: func(cx *cli.Context) error {
			ctx, cancel := context.WithTimeout(cx.Context, completePatience)
			defer cancel()
			c := &completer{cmds: cx.App.Commands}
			for _, word := range c.complete(ctx, cx.Args().Slice()) {
				u.printf("%s\n", word)
			}
			return nil
		},
	}
}

// completer finds what a word can become. It never asks for a password: paths
// of the vault are known only while it is mounted.
type completer struct {
	cmds  []*cli.Command
	vault string
}

func (c *completer) complete(ctx context.Context, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	typed, current := words[:len(words)-1], words[len(words)-1]
	cmd, args := c.find(typed)
	c.vault = optionValue(args, "--vault")
	if c.vault == "" {
		c.vault = os.Getenv("VAULTDRIVE_VAULT")
	}
	if option, value, ok := strings.Cut(current, "="); ok && isOption(option) {
		return withPrefix(option+"=", matching(value, c.values(ctx, cmd, option)))
	}
	if n := len(args); n > 0 && cmd != nil && takesValue(cmd.Flags, args[n-1]) {
		return matching(current, c.values(ctx, cmd, args[n-1]))
	}
	switch {
	case cmd == nil && strings.HasPrefix(current, "-"):
		return matching(current, []string{"--help", "--version"})
	case cmd == nil:
		return matching(current, commandNames(c.cmds))
	case strings.HasPrefix(current, "-"):
		return matching(current, optionNames(cmd))
	case len(cmd.Subcommands) > 0:
		return matching(current, commandNames(cmd.Subcommands))
	}
	return c.operands(ctx, cmd.Name, args, current)
}

// find walks down to the command that is being typed; args are its words.
func (c *completer) find(words []string) (*cli.Command, []string) {
	var cmd *cli.Command
	cmds := c.cmds
	for i, w := range words {
		if isOption(w) {
			continue
		}
		next := findCommand(cmds, w)
		if next == nil {
			return cmd, words[i:]
		}
		cmd, cmds = next, next.Subcommands
		if len(cmds) == 0 {
			return cmd, words[i+1:]
		}
	}
	return cmd, nil
}

func optionValue(args []string, name string) string {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

func commandNames(cmds []*cli.Command) []string {
	var names []string
	for _, cmd := range cmds {
		if !cmd.Hidden {
			names = append(names, cmd.Name)
		}
	}
	return names
}

func optionNames(cmd *cli.Command) []string {
	var names []string
	for _, f := range cmd.Flags {
		if name := f.Names()[0]; len(name) > 1 {
			names = append(names, "--"+name)
		}
	}
	return names
}

// values are what an option can be; none for files, which shells know.
func (c *completer) values(ctx context.Context, cmd *cli.Command, option string) []string {
	switch strings.TrimLeft(option, "-") {
	case "vault":
		return vaultNames()
	case "type":
		return []string{"item", "note", "password"}
	case "durability":
		return []string{"normal", "strict"}
	case "write":
		return []string{"auto", "v4"}
	case "prefetch":
		return []string{"all", "none", "pinned"}
	case "kdf":
		if cmd != nil && cmd.Name == "passwd" {
			return []string{"default", "keep"}
		}
		return []string{"default", "low"}
	case "asset":
		return c.paths(ctx, "")
	case "o":
		return []string{"ro", "allow_other", "xattr", "asset=", "durability=strict", "password-file=", "device-key="}
	}
	return nil
}

func vaultNames() []string {
	homes, err := listVaults()
	if err != nil {
		return nil
	}
	var names []string
	for _, h := range homes {
		names = append(names, h.label)
	}
	return names
}

// operands completes paths of the vault where a command takes them, mount
// points for umount; elsewhere the shell completes files.
func (c *completer) operands(ctx context.Context, cmd string, args []string, current string) []string {
	switch cmd {
	case "ls", "rm", "mv", "status", "rescue", "get", "put", "wait", "pin", "unpin", "prefetch", "evict", "keep":
		return matching(current, c.paths(ctx, current))
	case "rename":
		return matching(current, c.paths(ctx, ""))
	case "umount":
		return matching(current, mountedPoints())
	case "completion":
		return matching(current, []string{"bash", "fish", "zsh"})
	}
	return nil
}

func mountedPoints() []string {
	mounts, err := readMounts()
	if err != nil {
		return nil
	}
	var points []string
	for _, m := range mounts {
		if m.isOurs() && !slices.Contains(points, m.point) {
			points = append(points, m.point)
		}
	}
	return points
}

// paths lists the directory of the vault that a half-typed path is in.
func (c *completer) paths(ctx context.Context, current string) []string {
	home, err := selectVault(c.vault)
	if err != nil {
		return nil
	}
	cl, err := dialVault(ctx, home)
	if err != nil || cl == nil {
		return nil
	}
	defer cl.close(ctx)
	dir, _ := path.Split(current)
	var found []string
	err = cl.list(ctx, cleanPath(dir), false, func(i vaultcore.Info) error {
		name := dir + path.Base(i.Path)
		if isDir(i) {
			name += "/"
		}
		if !strings.ContainsFunc(name, vaultcore.UnsafeRune) {
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return found
}

func matching(prefix string, words []string) []string {
	var found []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			found = append(found, w)
		}
	}
	return found
}

func withPrefix(prefix string, words []string) []string {
	for i := range words {
		words[i] = prefix + words[i]
	}
	return words
}

// completionScripts ask this program, and fall back to files when it knows
// nothing.
var completionScripts = map[string]string{
	"bash": `_vaultdrive() {
  local words=() line
  for line in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
    words+=("${line//\\/}")
  done
  COMPREPLY=()
  while IFS= read -r line; do
    printf -v line '%q' "$line"
    COMPREPLY+=("$line")
  done < <(vaultdrive ` + completeCommand + ` "${words[@]}" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then compopt -o nospace; fi
}
complete -o default -F _vaultdrive vaultdrive
`,
	"zsh": `#compdef vaultdrive
_vaultdrive() {
  local -a found
  found=("${(@f)$(vaultdrive ` + completeCommand + ` "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  found=(${found:#})
  if (( ${#found} )); then
    compadd -S '' -- ${found:#*[^/=]}
    compadd -- ${found:#*[/=]}
  else
    _files
  fi
}
compdef _vaultdrive vaultdrive
`,
	"fish": `function __vaultdrive_complete
  set -l words (commandline -opc)[2..-1] (commandline -ct)
  set -l found (vaultdrive ` + completeCommand + ` $words 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c vaultdrive -f -a '(__vaultdrive_complete)'
`,
}
