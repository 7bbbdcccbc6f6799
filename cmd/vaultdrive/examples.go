package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// examples are shown at the end of each command's help, by its whole name.
var examples = map[string][]string{
	"init":                    {"vaultdrive init --vault home", "vaultdrive init --vault ./family/ --label family"},
	"demo":                    {"vaultdrive demo ~/Demo"},
	"mount":                   {"vaultdrive mount ~/Vault", "vaultdrive mount --vault home --read-only ~/Vault"},
	"umount":                  {"vaultdrive umount ~/Vault", "vaultdrive umount --drain 5m ~/Vault"},
	"lock":                    {"vaultdrive lock", "vaultdrive lock --force"},
	"status":                  {"vaultdrive status", "vaultdrive status --json Tax/2026.pdf"},
	"wait":                    {"vaultdrive wait", "vaultdrive wait --timeout 10m ~/Vault/Tax"},
	"ls":                      {"vaultdrive ls", "vaultdrive ls -l Tax"},
	"get":                     {"vaultdrive get Tax/2026.pdf .", "vaultdrive get Tax/2026.pdf - | lpr"},
	"put":                     {"vaultdrive put scan.pdf Tax/2026.pdf", "vaultdrive put scans Tax"},
	"rm":                      {"vaultdrive rm Tax/draft.odt", "vaultdrive rm -r Tax/2019"},
	"mv":                      {"vaultdrive mv Tax/scan.pdf Tax/2026.pdf"},
	"asset add":               {"vaultdrive asset add Tax", "vaultdrive asset add --type note Recipes"},
	"asset list":              {"vaultdrive asset list"},
	"asset rename":            {"vaultdrive asset rename Tax 'Tax and fees'"},
	"asset rm":                {"vaultdrive asset rm Recipes"},
	"trash list":              {"vaultdrive trash list"},
	"trash restore":           {"vaultdrive trash restore Tax/draft.odt"},
	"trash empty":             {"vaultdrive trash empty"},
	"sync enable":             {"vaultdrive sync enable file:///mnt/nas", "vaultdrive sync enable --keep-credentials 's3://family/vault?endpoint=https://s3.example&region=eu-1'", "vaultdrive sync enable --invite 92822cab6b5d9f7730f80441f47f2722 https://vault.example", "vaultdrive sync enable --limit-up 2M --prefetch pinned"},
	"sync disable":            {"vaultdrive sync disable"},
	"sync now":                {"vaultdrive sync now", "vaultdrive sync now --heal"},
	"sync status":             {"vaultdrive sync status", "vaultdrive sync status --json | jq .queue"},
	"join":                    {"vaultdrive join --vault home --remote file:///mnt/nas vd1:lchfe35m…", "vaultdrive join --pair --remote https://vault.example vd1:lchfe35m…", "vaultdrive join --remote https://vault.example --kit-file kit.txt"},
	"conflicts list":          {"vaultdrive conflicts list"},
	"conflicts keep":          {"vaultdrive conflicts keep --mine Tax/note.txt", "vaultdrive conflicts keep --both Tax/note.txt"},
	"adopt":                   {"vaultdrive adopt", "vaultdrive adopt --all"},
	"passwd":                  {"vaultdrive passwd", "vaultdrive passwd --accept"},
	"kit create":              {"vaultdrive kit create | lpr"},
	"kit restore":             {"vaultdrive kit restore --kit-file kit.txt"},
	"device enroll":           {"vaultdrive device enroll", "vaultdrive device enroll --device-key ~/.config/home.key", "vaultdrive device enroll --new-id"},
	"device unenroll":         {"vaultdrive device unenroll"},
	"device list":             {"vaultdrive device list"},
	"device approve":          {"vaultdrive device approve CODE"},
	"device revoke":           {"vaultdrive device revoke laptop"},
	"check":                   {"vaultdrive check", "vaultdrive check --deep --repair"},
	"rescue":                  {"vaultdrive rescue", "vaultdrive rescue --partial Tax/scan.pdf scan.pdf"},
	"backup create":           {"vaultdrive backup create /media/usb/home.nt2backup"},
	"backup verify":           {"vaultdrive backup verify /media/usb/home.nt2backup", "vaultdrive backup verify --deep --password-file pw /media/usb/home.nt2backup"},
	"backup restore":          {"vaultdrive backup restore --vault ./home/ /media/usb/home.nt2backup", "vaultdrive backup restore --fill /media/usb/home.nt2backup"},
	"backup mount":            {"vaultdrive backup mount /media/usb/home.nt2backup ~/then"},
	"events":                  {"vaultdrive events", "vaultdrive events --json | jq ."},
	"serve":                   {"vaultdrive serve --data /srv/vaultdrive", "vaultdrive serve --data /srv/vaultdrive --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem --public https://vault.example"},
	"serve invite":            {"vaultdrive serve invite --data /srv/vaultdrive"},
	"serve migrate":           {"vaultdrive serve migrate --data /srv/vaultdrive --to-data /srv/other --to-database postgres://vault@db/vault"},
	"completion":              {"vaultdrive completion bash > ~/.local/share/bash-completion/completions/vaultdrive"},
	"pin":                     {"vaultdrive pin Tax", "vaultdrive pin --list"},
	"unpin":                   {"vaultdrive unpin Tax"},
	"prefetch":                {"vaultdrive prefetch /", "vaultdrive prefetch ~/Vault/Tax"},
	"evict":                   {"vaultdrive evict Films"},
	"serve account list":      {"vaultdrive serve account list --data /srv/vaultdrive"},
	"serve account set-plan":  {"vaultdrive serve account set-plan --data /srv/vaultdrive 588e526f-ac95-478b-ba9d-ebfa794659fe premium"},
	"serve account set-quota": {"vaultdrive serve account set-quota --data /srv/vaultdrive 588e526f-ac95-478b-ba9d-ebfa794659fe 50G"},
	"serve account disable":   {"vaultdrive serve account disable --data /srv/vaultdrive 588e526f-ac95-478b-ba9d-ebfa794659fe"},
	"serve account enable":    {"vaultdrive serve account enable --data /srv/vaultdrive 588e526f-ac95-478b-ba9d-ebfa794659fe"},
}

// addExamples puts them under the descriptions; before is what the names of the
// commands above say.
func addExamples(before string, cmds []*cli.Command) {
	for _, c := range cmds {
		name := strings.TrimSpace(before + " " + c.Name)
		if lines := examples[name]; len(lines) > 0 {
			c.Description = strings.TrimLeft(c.Description+"\n\nExamples:\n  "+strings.Join(lines, "\n  "), "\n")
		}
		addExamples(name, c.Subcommands)
	}
}
