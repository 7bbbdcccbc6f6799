package api

import (
	"fmt"
	"net/url"
	"strings"
)

// Audience gives the one spelling of a server's address that logins are bound
// to: scheme://host[:port], lower case, without the scheme's own port. A path,
// query, user or fragment is an error: the address of a server has none.
func Audience(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	switch {
	case scheme != "https" && scheme != "http":
		return "", fmt.Errorf("%q: a server's address begins with https://", address)
	case host == "":
		return "", fmt.Errorf("%q: no host", address)
	case strings.Contains(host, "%"):
		return "", fmt.Errorf("%q: a zone is known to one machine only", address)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return "", fmt.Errorf("%q: a server's address is scheme, host and port alone", address)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && !(scheme == "https" && port == "443") && !(scheme == "http" && port == "80") {
		host += ":" + port
	}
	return scheme + "://" + host, nil
}
