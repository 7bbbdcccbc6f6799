package s3

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/vaultdrive/vaultdrive/vaultcore/blob"
)

// Options say which bucket and who we are. What is empty comes from the usual
// environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
// AWS_REGION, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials.
type Options struct {
	Bucket   string
	Prefix   string // keys lie below it; empty for the whole bucket
	Endpoint string // host, host:port or https://host; empty: AWS
	Region   string
	Style    string // "path", "virtual", or "" for what suits the endpoint
	Insecure bool   // http:// is allowed also beyond this machine

	// Credentials: given here, or a file of the usual form and a profile in it.
	AccessKey, SecretKey, SessionToken string
	CredentialsFile, Profile           string
}

// ParseURL reads s3://bucket/prefix?endpoint=…&region=…&style=…&insecure=1.
// Credentials do not belong in an address: it is shown and stored.
func ParseURL(address string) (Options, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Options{}, fmt.Errorf("the address of the bucket cannot be read") // err would repeat it, secrets and all
	}
	if u.User != nil {
		return Options{}, blob.WithHint(fmt.Errorf("address of a bucket: no credentials in it"), hintKeys)
	}
	if u.Scheme != "s3" || u.Host == "" || u.Port() != "" || u.Fragment != "" {
		return Options{}, fmt.Errorf("address of a bucket: s3://bucket/prefix?endpoint=https://host&region=name is the form")
	}
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	for name, values := range u.Query() {
		if err := o.set(name, values[len(values)-1]); err != nil {
			return Options{}, err
		}
	}
	_, err = o.base()
	return o, err
}

func (o *Options) set(name, value string) error {
	switch name {
	case "endpoint":
		o.Endpoint = value
	case "region":
		o.Region = value
	case "style":
		o.Style = value
	case "profile":
		o.Profile = value
	case "insecure":
		o.Insecure = value == "1" || value == "true"
	default:
		return fmt.Errorf("address of a bucket: unknown setting %.30q; there are endpoint, region, style, profile and insecure", name)
	}
	if name == "style" && value != "path" && value != "virtual" {
		return fmt.Errorf("address of a bucket: style is path or virtual")
	}
	return nil
}

func (o Options) base() (string, error) {
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/:?#@ ") {
		return "", fmt.Errorf("%.60q is no name of a bucket", o.Bucket)
	}
	if err := s3utils.CheckValidBucketName(o.Bucket); err != nil {
		return "", fmt.Errorf("%.60q is no name of a bucket: %w", o.Bucket, err)
	}
	if o.Prefix == "" {
		return "", nil
	}
	if err := blob.CheckKey(o.Prefix); err != nil {
		return "", fmt.Errorf("prefix in the bucket: %w", err)
	}
	return o.Prefix + "/", nil
}

// endpoint gives host and whether TLS is spoken with it.
func (o Options) endpoint() (host string, secure bool, err error) {
	text := o.Endpoint
	if text == "" {
		text = os.Getenv("AWS_ENDPOINT_URL_S3")
	}
	if text == "" {
		text = os.Getenv("AWS_ENDPOINT_URL")
	}
	if text == "" {
		return "s3.amazonaws.com", true, nil
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", false, fmt.Errorf("the endpoint of the bucket is no https://host or https://host:port")
	}
	switch u.Scheme {
	case "https":
		return u.Host, true, nil
	case "http":
		if o.Insecure || loopback(u.Hostname()) {
			return u.Host, false, nil
		}
		return "", false, blob.WithHint(fmt.Errorf("the endpoint %s speaks no TLS: everybody on the way could see and change requests", u.Host),
			"use https://, or insecure=1 in the address if the network is trusted")
	}
	return "", false, fmt.Errorf("the endpoint of the bucket is no https://host or https://host:port")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// region that requests are signed for; empty makes the client ask AWS for it.
func (o Options) region(host string) string {
	for _, region := range []string{o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if region != "" {
			return region
		}
	}
	switch {
	case strings.HasSuffix(host, ".r2.cloudflarestorage.com"):
		return "auto"
	case strings.HasSuffix(host, ".amazonaws.com"):
		return ""
	}
	return "us-east-1"
}

func (o Options) lookup() minio.BucketLookupType {
	switch o.Style {
	case "path":
		return minio.BucketLookupPath
	case "virtual":
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}

// credentials takes the first source that has some. Asking without any is
// refused: a bucket that everybody may write to is not one to trust a vault to.
func (o Options) credentials() (*credentials.Credentials, error) {
	if o.AccessKey != "" || o.SecretKey != "" {
		return usable(credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken))
	}
	if o.CredentialsFile == "" && o.Profile == "" {
		if found, err := usable(credentials.NewEnvAWS()); err == nil {
			return found, nil
		}
	}
	found, err := usable(credentials.NewFileAWSCredentials(o.CredentialsFile, o.Profile))
	if err != nil && (o.CredentialsFile != "" || o.Profile != "") {
		err = blob.WithHint(err, "look at the credentials file and the profile that were named: the file has to be there, in the form of ~/.aws/credentials, with that profile in it")
	}
	return found, err
}

// Keys gives the credentials that Open would use, for whoever wants to keep
// them. Error: blob.ErrDenied when there are none.
func (o Options) Keys() (access, secret, session string, err error) {
	c, err := o.credentials()
	if err != nil {
		return "", "", "", err
	}
	value, err := c.GetWithContext(nil)
	return value.AccessKeyID, value.SecretAccessKey, value.SessionToken, err
}

func usable(c *credentials.Credentials) (*credentials.Credentials, error) {
	value, err := c.GetWithContext(nil)
	if err != nil || value.AccessKeyID == "" || value.SecretAccessKey == "" || value.SignerType.IsAnonymous() {
		// The cause may name a file, but also show a line of it.
		const none = "there are no credentials for the bucket"
		return nil, blob.WithHint(blob.WithSaying(fmt.Errorf("%w: %s", blob.ErrDenied, none), none),
			"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials")
	}
	return c, nil
}
