package main

import (
	"fmt"
	"os"
	"strings"
)

// printUnit writes a systemd user unit that keeps this vault mounted.
func (c *mountCommand) printUnit(home vaultHome) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{self, "mount", "--foreground", "--vault", home.path}
	args = append(args, c.unitOptions()...)
	args = append(args, c.plan.MountPoint)
	for i, arg := range args {
		args[i] = quoteUnit(arg)
	}
	c.ui.printf(unitText, quoteSpecifiers(home.label), quoteSpecifiers(c.plan.MountPoint), home.id,
		credentialPassword, credentialDeviceKey, strings.Join(args, " "))
	return nil
}

func (c *mountCommand) unitOptions() []string {
	var args []string
	add := func(is bool, option ...string) {
		if is {
			args = append(args, option...)
		}
	}
	add(c.plan.ReadOnly, "--read-only")
	add(c.plan.AllowOther, "--allow-other")
	add(c.plan.XAttr, "--xattr")
	add(c.plan.Strict, "--durability", "strict")
	add(c.plan.Asset != "", "--asset", c.plan.Asset)
	for _, pattern := range c.plan.Scratch {
		add(true, "--scratch", pattern)
	}
	add(c.password.file != "", "--password-file", c.password.file)
	add(c.password.command != "", "--password-command", c.password.command)
	add(c.password.deviceKey != "", "--device-key", c.password.deviceKey)
	return args
}

const unitText = `# vaultdrive: %[1]s on %[2]s
# Save as ~/.config/systemd/user/vaultdrive-%[3]s.service, then:
#   systemctl --user daemon-reload
#   systemctl --user enable --now vaultdrive-%[3]s.service
# It needs a way in that asks nobody: vaultdrive device enroll, or a credential
# made with: systemd-creds encrypt --user --name=%[4]s FILE OUT

[Unit]
Description=vaultdrive %[1]s

[Service]
Type=notify
ExecStart=%[6]s
# LoadCredentialEncrypted=%[4]s:%%h/.config/vaultdrive/password.cred
# LoadCredentialEncrypted=%[5]s:%%h/.config/vaultdrive/device-key.cred
KillMode=mixed
TimeoutStopSec=60
MemorySwapMax=0
LimitCORE=0

[Install]
WantedBy=default.target
`

// printFstab writes a line with which mount(8) mounts the vault.
func (c *mountCommand) printFstab(home vaultHome) error {
	options := []string{"noauto", "nofail"}
	add := func(is bool, option string) {
		if is {
			options = append(options, option)
		}
	}
	add(c.plan.ReadOnly, "ro")
	add(c.plan.AllowOther, "allow_other")
	add(c.plan.XAttr, "xattr")
	add(c.plan.Strict, "durability=strict")
	add(c.plan.Asset != "", "asset="+quoteOption(c.plan.Asset))
	for _, pattern := range c.plan.Scratch {
		add(true, "scratch="+quoteOption(pattern))
	}
	add(c.password.file != "", "password-file="+quoteOption(c.password.file))
	add(c.password.deviceKey != "", "device-key="+quoteOption(c.password.deviceKey))
	add(os.Geteuid() != 0, fmt.Sprintf("setuid=%d", os.Geteuid()))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.ui.printf("# needs: ln -s %s /sbin/mount.vaultdrive\n", self)
	c.ui.printf("%s %s vaultdrive %s 0 0\n", quoteFstab(home.path), quoteFstab(c.plan.MountPoint),
		quoteFstab(strings.Join(options, ",")))
	return nil
}

// quoteUnit makes an argument of ExecStart= of any string.
func quoteUnit(arg string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "$", "$$").Replace(quoteSpecifiers(arg))
	if quoted != arg || strings.ContainsAny(arg, " \t'") {
		return `"` + quoted + `"`
	}
	return arg
}

func quoteSpecifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quoteOption protects commas inside of one mount option.
func quoteOption(s string) string { return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s) }

// quoteFstab writes a field of fstab: blanks and backslashes in octal.
func quoteFstab(s string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(s)
}
