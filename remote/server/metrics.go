package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are counted by route, never by account.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	waiters  prometheus.Gauge
	swept    *prometheus.CounterVec
	// redirects to the bucket: bytes that did not go through here.
	redirects prometheus.Counter
	open      prometheus.Gauge
	refused   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaultdrive_requests_total", Help: "Requests answered."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vaultdrive_request_seconds", Help: "Time to answer, long polls included.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60}}, []string{"route"}),
		waiters:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "vaultdrive_waiters", Help: "Long polls that wait."}),
		swept:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaultdrive_swept_total", Help: "What the sweeper ended."}, []string{"kind"}),
		redirects: prometheus.NewCounter(prometheus.CounterOpts{Name: "vaultdrive_redirects_total", Help: "Downloads that were sent to the bucket."}),
		open:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "vaultdrive_connections", Help: "Connections that are open."}),
		refused:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vaultdrive_connections_refused_total", Help: "Connections beyond a bound."}, []string{"bound"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.waiters, m.swept, m.redirects, m.open, m.refused, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) seen(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Metrics is for a listener of its own, which only operators reach.
func (s *Server) Metrics() http.Handler {
	return promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
}
