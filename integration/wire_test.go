package integration

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/vaultdrive/vaultdrive/remote/s3/s3test"
)

// wire is the network between one device and the S3 server.
type wire struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// Faults of a wire, as toxiproxy spells them. Upstream is from the device to the
// server, downstream what comes back.
const (
	faultLatency   = `{"type":"latency","stream":"downstream","attributes":{"latency":150,"jitter":100}}`
	faultSlow      = `{"type":"bandwidth","stream":"upstream","attributes":{"rate":512}}` // kB/s
	faultCutUp     = `{"type":"limit_data","stream":"upstream","attributes":{"bytes":300000}}`
	faultCutDown   = `{"type":"limit_data","stream":"downstream","attributes":{"bytes":100000}}`
	faultReset     = `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":30}}`
	faultSilent    = `{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`
	faultFragments = `{"type":"slicer","stream":"downstream","attributes":{"average_size":900,"size_variation":500,"delay":300}}`
)

// newWire starts a proxy before the server at an endpoint.
func newWire(t *testing.T, endpoint string) *wire {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	w := &wire{t, toxiproxy.NewProxy(server, t.Name(), s3test.Host()+":0", strings.TrimPrefix(endpoint, "http://"))}
	w.up()
	t.Cleanup(w.proxy.Stop)
	return w
}

func (w *wire) endpoint() string { return "http://" + w.proxy.Listen }

// suffer puts faults in place of those there are; none: a good wire.
func (w *wire) suffer(faults ...string) {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.Background())
	for _, f := range faults {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(f)); err != nil {
			w.t.Errorf("%s: %v", f, err)
		}
	}
}

// down cuts every connection and refuses new ones.
func (w *wire) down() { w.proxy.Stop() }

// up lets connections through again.
func (w *wire) up() {
	w.t.Helper()
	if w.proxy.Enabled {
		return
	}
	if err := w.proxy.Start(); err != nil {
		w.t.Errorf("the wire does not come up: %v", err)
	}
}

// bucketAt is the remote of a vault in the gateway's bucket, seen over an
// endpoint, and what a device needs in its environment for it.
func bucketAt(g *s3test.Gateway, endpoint string) (remote string, env []string) {
	o := g.Options
	query := url.Values{"endpoint": {endpoint}, "region": {o.Region}, "style": {o.Style}}
	return fmt.Sprintf("s3://%s/family?%s", o.Bucket, query.Encode()),
		[]string{"AWS_ACCESS_KEY_ID=" + o.AccessKey, "AWS_SECRET_ACCESS_KEY=" + o.SecretKey}
}

// wired is a device with a wire of its own to the gateway.
func wired(t *testing.T, name string, g *s3test.Gateway, first *bed) (*bed, *wire) {
	t.Helper()
	w := newWire(t, g.Options.Endpoint)
	remote, env := bucketAt(g, w.endpoint())
	return newDevice(t, name, remote, env, first), w
}
