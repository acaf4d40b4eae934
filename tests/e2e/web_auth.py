#!/usr/bin/env python3
"""Who may read, asked by real Prometheus servers with their own settings.

On the demo: TLS (ca_file, server_name), TLS with a wrong authority or name, a client certificate and none, basic auth
right and wrong; then the certificate is replaced while all of it runs, and the next scrape must see the new one. On a
real cluster with --auth kubernetes: service account tokens with the right to get /metrics (up), without it (403),
none and a wrong one (401), before and after the right is granted; and the API server is asked once a minute at most.

Usage: web_auth.py PROMETHEUS… (binaries). Without a cluster that is up the second part is skipped. Exit status 1 on a
difference.
"""

import argparse
import json
import ssl
import socket

import cluster as real
from cluster import Cluster, last_wrong, main, say, scratch, table
from exporter import Exporter
from pki import Authority
from scraper import Prometheus

NAMESPACE = "web-auth"
# Of the password `scrape`, with cost 10.
HASH = "$2b$10$y4Y91ZXsqIXBYyD8D4KRQOaRDYj87FHYwZCfcD8i9PW3tc/ub7IJi"


def differences(servers, expected):
    """Waits until every job of every server shows what it must; prints what they show, returns how many do not."""

    def wrong():
        found = []
        for server in servers:
            targets = server.targets()
            for job, (health, error) in expected.items():
                seen = targets.get(job, ("unknown", ""))
                if seen[0] != health or error not in seen[1]:
                    found.append((server.name, job, health, error, *seen))
        return found

    bad = last_wrong(90, wrong)
    rows = [(server.name, job, *server.targets().get(job, ("unknown", ""))) for server in servers for job in expected]
    print(table([(name, job, health, error[:70]) for name, job, health, error in rows], ("server", "job", "is", "error")))
    for row in bad:
        say("WRONG: {} {} must be {} {!r}, is {} {!r}".format(*row))
    return len(bad)


def demo(binaries, folder):
    """TLS, client certificates and passwords."""
    authority, other = Authority(folder), Authority(folder, "other")
    authority.issue("exporter.example", ["DNS:exporter.example"], into="tls")
    mine = authority.issue("prometheus.example", ["DNS:prometheus.example"])
    strange = other.issue("stranger", ["DNS:prometheus.example"])
    tls = {"cert_file": "tls.crt", "key_file": "tls.key"}
    wanted = {**tls, "client_ca_file": "ca.crt", "client_auth_type": "RequireAndVerifyClientCert",
              "client_allowed_sans": ["prometheus.example"]}
    (folder / "basic.yml").write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": {"prometheus": HASH}}))
    (folder / "mutual.yml").write_text(json.dumps({"tls_server_config": wanted}))
    (folder / "password").write_text("scrape\n")
    basic, mutual = ([Exporter(folder, ["demo", "--web.config.file", str(folder / f"{name}.yml")], name=name)
                      for name in ("basic", "mutual")])
    trust = {"ca_file": str(authority.certificate), "server_name": "exporter.example"}
    right = {"username": "prometheus", "password_file": str(folder / "password")}

    def job(name, exporter, tls_config, **more):
        return {"job_name": name, "scheme": "https", "tls_config": tls_config,
                "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}], **more}

    def certificate(pair):
        return {**trust, "cert_file": str(pair[0]), "key_file": str(pair[1])}

    jobs = {
        "right password": (job("right password", basic, trust, basic_auth=right), ("up", "")),
        "wrong password": (job("wrong password", basic, trust, basic_auth={**right, "password": "x", "password_file": None}),
                           ("down", "401")),
        "no password": (job("no password", basic, trust), ("down", "401")),
        "wrong authority": (job("wrong authority", basic, {**trust, "ca_file": str(other.certificate)}, basic_auth=right),
                            ("down", "x509: certificate signed by unknown authority")),
        "wrong name": (job("wrong name", basic, {**trust, "server_name": "renewed.example"}, basic_auth=right),
                       ("down", "x509: certificate is valid for exporter.example")),
        "plain HTTP": ({**job("plain HTTP", basic, trust, basic_auth=right), "scheme": "http"}, ("down", "400")),
        "client certificate": (job("client certificate", mutual, certificate(mine)), ("up", "")),
        "no certificate": (job("no certificate", mutual, trust), ("down", "certificate required")),
        "stranger's certificate": (job("stranger's certificate", mutual, certificate(strange)), ("down", "tls:")),
    }
    for scrape, _ in jobs.values():
        if scrape.get("basic_auth", {}).get("password_file", "") is None:
            del scrape["basic_auth"]["password_file"]
    servers = [Prometheus(binary, folder, [scrape for scrape, _ in jobs.values()]) for binary in binaries]
    try:
        expected = {name: result for name, (_, result) in jobs.items()}
        wrong = differences(servers, expected)
        wrong += health_checks(basic, authority)
        say("the certificate is replaced while the servers scrape")
        authority.issue("renewed.example", ["DNS:renewed.example"], into="tls")
        renewed = "x509: certificate is valid for renewed.example"
        wrong += differences(servers, {
            "right password": ("down", renewed), "wrong name": ("up", ""), "client certificate": ("down", renewed)})
    finally:
        for thing in (*servers, basic, mutual):
            thing.stop()
    return wrong


def health_checks(exporter, authority):
    """Health checks need no password, over the same TLS."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    wrong = 0
    for path, expected in (("/livez", 200), ("/readyz", 200), ("/-/healthy", 200), ("/-/ready", 200), ("/metrics", 401),
                           ("/", 401), ("/livez/", 401)):
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=10) as plain, \
                context.wrap_socket(plain, server_hostname="exporter.example") as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            status = int(stream.recv(100).split()[1])
        if status != expected:
            wrong += 1
            say(f"WRONG: {path} without a password is {status}, must be {expected}")
    return wrong


ROLES = {"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "web-auth-exporter"}, "rules": [
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}]},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "web-auth-reader"}, "rules": [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]},
    *({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"web-auth-{account}"},
       "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"web-auth-{role}"},
       "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]}
      for account, role in (("exporter", "exporter"), ("prometheus", "reader")))]}


def kubernetes(binaries, folder, cluster):
    """Tokens that the cluster knows."""
    cluster.namespace(NAMESPACE)
    try:
        for account in ("exporter", "prometheus", "nobody"):
            cluster.kubectl("-n", NAMESPACE, "create", "serviceaccount", account)
        cluster.apply(json.dumps(ROLES))
        tokens = {account: cluster.kubectl("-n", NAMESPACE, "create", "token", account).strip()
                  for account in ("exporter", "prometheus", "nobody")}
        tokens["liar"] = tokens["prometheus"][:-4] + "AAAA"
        for name, token in tokens.items():
            (folder / f"{name}.token").write_text(token)
        return with_tokens(binaries, folder, cluster, tokens)
    finally:
        for kind, name in [("clusterrole", "exporter"), ("clusterrole", "reader"), ("clusterrolebinding", "exporter"),
                           ("clusterrolebinding", "prometheus"), ("clusterrolebinding", "nobody")]:
            cluster.kubectl("delete", kind, f"web-auth-{name}", "--ignore-not-found", check=False)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false", check=False)


def with_tokens(binaries, folder, cluster, tokens):
    """Starts the exporter with a service account's token, and scrapes it with others."""
    kubeconfig = folder / "kubeconfig"
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": tokens["exporter"]}
    kubeconfig.write_text(json.dumps(config))
    exporter = Exporter(folder, ["--auth", "kubernetes"], kubeconfig=kubeconfig, name="kubernetes")
    target = {"static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}]}

    def job(name, token, **more):
        return {"job_name": name, "authorization": {"credentials_file": str(folder / f"{token}.token")}, **target, **more}

    jobs = [job("allowed", "prometheus"), job("not allowed", "nobody"), job("wrong token", "liar"),
            # Every service account of a cluster may get /api/*: that must not open a path of ours.
            {"job_name": "no token", **target}, job("another path", "nobody", metrics_path="/api/v1/terminations")]
    servers = []
    try:
        exporter.wait_until_ready()
        servers = [Prometheus(binary, folder, jobs) for binary in binaries]
        wrong = differences(servers, {
            "allowed": ("up", ""), "not allowed": ("down", "403"), "wrong token": ("down", "401"),
            "no token": ("down", "401"), "another path": ("down", "403")})
        status, headers, _ = exporter.fetch("/metrics")
        challenge = headers.get("WWW-Authenticate", "")
        _, _, refused = exporter.fetch("/metrics", {"Authorization": f"Bearer {tokens['nobody']}"})
        said = f"system:serviceaccount:{NAMESPACE}:nobody may not get the nonResourceURL /metrics\n"
        for what, good in {"401 names the scheme": status == 401 and challenge.startswith("Bearer"),
                           "403 names who and what": refused == said}.items():
            wrong += not good
            say(f"{what}: {'yes' if good else 'NO'}")
        say("the right is granted to the one who was refused")
        cluster.kubectl("create", "clusterrolebinding", "web-auth-nobody", "--clusterrole=web-auth-reader",
                        f"--serviceaccount={NAMESPACE}:nobody")
        wrong += differences(servers, {"allowed": ("up", ""), "not allowed": ("up", "")})
    finally:
        for thing in (*servers, exporter):
            thing.stop()
    log = exporter.log.read_text()
    leaked = [name for name, token in tokens.items() if token in log or token.rpartition(".")[2] in log]
    if leaked:
        say(f"WRONG: the log holds the token of {', '.join(leaked)}")
    return wrong + len(leaked)


def run():
    """Both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", nargs="+", help="Prometheus binaries")
    binaries = parser.parse_args().prometheus
    folder = scratch("web-auth")
    wrong = demo(binaries, folder)
    if (real.state() / "kubeconfig").exists():
        wrong += kubernetes(binaries, folder, Cluster())
    else:
        say("skipped: --auth kubernetes needs a cluster that is up")
    say(f"FAILED: {wrong} differences; logs in {folder}" if wrong else "everybody reads what they may, and nothing else")
    return 1 if wrong else 0


if __name__ == "__main__":
    main(run)
