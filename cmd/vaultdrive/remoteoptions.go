package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/vaultdrive/vaultdrive/remote/syncer"
	"github.com/vaultdrive/vaultdrive/vaultcore/seal"
)

// remoteOptions are those of the commands that make a remote the vault's.
type remoteOptions struct {
	access    accessSource
	device    string
	prefetch  string
	upLimit   string
	downLimit string
	cacheSize string
	metered   bool
}

func (o *remoteOptions) flags() []cli.Flag {
	return append(o.access.flags(),
		&cli.StringFlag{Name: "device-name", Destination: &o.device, Usage: "what other devices call this one, for good; default: the host's `NAME`"},
		&cli.StringFlag{Name: "prefetch", Destination: &o.prefetch,
			Usage: "`WHICH` contents of other devices are brought here unasked: all (the default), pinned, or none"},
		&cli.StringFlag{Name: "limit-up", Destination: &o.upLimit, Usage: "upload at most `RATE` bytes a second, as 500K or 2M; 0: no limit"},
		&cli.StringFlag{Name: "limit-down", Destination: &o.downLimit, Usage: "download at most `RATE` bytes a second; 0: no limit"},
		&cli.StringFlag{Name: "cache-size", Destination: &o.cacheSize,
			Usage: "keep at most `SIZE` of contents on this device, as 500M or 20G: what the remote has and was not read for long goes first; 0: all"},
		&cli.BoolFlag{Name: "metered", Destination: &o.metered,
			Usage: "the network costs money: no prefetch, no uploads above 1 MiB unless asked for, few polls"},
	)
}

// request finds out what is wrong before anybody types a password.
func (o *remoteOptions) request(cx *cli.Context, address string) (in syncEnableRequest, err error) {
	in = syncEnableRequest{URL: addressOfRemote(address), Device: o.device, Named: o.device != "", Keep: o.access.keep}
	if in.Device == "" {
		in.Device = hostName()
	}
	if len(in.Device) > seal.MaxDeviceName || !utf8.ValidString(in.Device) {
		return in, usage("--device-name has at most %d bytes", seal.MaxDeviceName)
	}
	switch syncer.Prefetch(o.prefetch) {
	case "":
	case syncer.PrefetchAll, syncer.PrefetchPinned, syncer.PrefetchNone:
		in.Prefetch = &o.prefetch
	default:
		return in, usage("--prefetch %s: it is all, pinned or none", o.prefetch)
	}
	if in.UpLimit, err = limitOf("--limit-up", o.upLimit); err != nil {
		return in, err
	}
	if in.DownLimit, err = limitOf("--limit-down", o.downLimit); err != nil {
		return in, err
	}
	if in.CacheSize, err = limitOf("--cache-size", o.cacheSize); err != nil {
		return in, err
	}
	if cx.IsSet("metered") {
		in.Metered = &o.metered
	}
	in.Access, err = o.access.find(in.URL)
	return in, err
}

// addressOfRemote gives a directory that was named by its path its address.
func addressOfRemote(arg string) string {
	if scheme, _, has := strings.Cut(arg, ":"); arg == "" || has && !strings.Contains(scheme, "/") {
		return arg
	}
	if st, err := os.Stat(arg); !isVaultPath(arg) && (err != nil || !st.IsDir()) {
		return arg // whatever it is, it does not look like a path
	}
	return (&url.URL{Scheme: "file", Path: absolute(arg)}).String()
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// hostName is this machine's name without its domain.
func hostName() string {
	name, err := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	if err != nil || name == "" || len(name) > seal.MaxDeviceName || !utf8.ValidString(name) {
		return "device"
	}
	return name
}

// limitOf reads a number of bytes; nil when none is given.
func limitOf(option, text string) (*int64, error) {
	if text == "" {
		return nil, nil
	}
	n, ok := parseSize(text)
	if !ok {
		return nil, usage("%s %s: it is a number of bytes, as 500K or 2M", option, text)
	}
	return &n, nil
}

// accessSource holds the options that say where the credentials of a bucket
// are. No option takes a secret: arguments can be read by everybody.
type accessSource struct {
	file    string
	profile string
	keep    bool
	invite  string
}

func (a *accessSource) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "credentials-file", Destination: &a.file,
			Usage: "read the bucket's credentials from `FILE`, in the form of ~/.aws/credentials, at every mount"},
		&cli.StringFlag{Name: "profile", Destination: &a.profile, Usage: "use that `NAME` in the credentials file"},
		&cli.StringFlag{Name: "invite", Destination: &a.invite, Usage: "`CODE` that vaultdrive serve invite printed, for a server that asks for one"},
		&cli.BoolFlag{Name: "keep-credentials", Destination: &a.keep,
			Usage: "seal the credentials in the vault, so that no mount needs them from elsewhere"},
	}
}

// find gives what this command knows of credentials and the process that syncs
// may not; nil for nothing. url may be empty: not known yet.
func (a *accessSource) find(url string) (*accessKeys, error) {
	given := a.file != "" || a.profile != "" || a.keep
	if url != "" && !strings.HasPrefix(url, "s3:") {
		if given {
			return nil, usage("only a bucket has credentials")
		}
		if a.invite != "" {
			return &accessKeys{Invite: a.invite}, nil
		}
		return nil, nil
	}
	if a.invite != "" {
		return nil, usage("only a server takes an invitation")
	}
	found := accessKeys{Profile: a.profile}
	if a.file != "" {
		found.File = absolute(a.file)
	}
	inEnvironment := os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_ACCESS_KEY") != ""
	if a.file == "" && a.profile == "" && !inEnvironment {
		found.File, found.Profile = os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), os.Getenv("AWS_PROFILE")
	}
	var err error
	if a.keep || found == (accessKeys{}) && inEnvironment {
		o := found.options()
		found = accessKeys{}
		found.AccessKey, found.SecretKey, found.SessionToken, err = o.Keys()
	}
	if err != nil || found == (accessKeys{}) {
		return nil, err
	}
	return &found, nil
}
