"""Two more ways to the same pod, for comparison: sshuttle over `kubectl port-forward`, and wireguard-go straight to the node (no API
server between, so it is what a VPN could have at best here). Their programs come from the package registries when --others asks."""
import os
import subprocess
import tempfile

import cpu
from paths import Kubectl, PathError, Program, device_bytes, on_laptop, wait_until

SSH_PORT = 2222
WG_PORT, WG_LAPTOP, WG_NODE = 51820, "198.51.100.5", "198.51.100.6"
APT = "sshuttle openssh-server wireguard-tools"
WG_PACKAGE = "golang.zx2c4.com/wireguard@latest"


def install(folder):
    """The path of wireguard-go; raises what went wrong."""
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *APT.split()], check=True, capture_output=True,
                   timeout=300, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    program = os.path.join(folder, "wireguard")
    if not os.path.exists(program):
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["go", "install", WG_PACKAGE], check=True, capture_output=True, timeout=300,
                       env={**os.environ, "GOBIN": folder})
    return program


def run(*argv, text=None):
    done = subprocess.run(argv, capture_output=True, text=True, input=text, timeout=30, check=False)
    if done.returncode != 0:
        raise PathError(f"{argv[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


class Sshuttle(Program):
    name = "sshuttle"

    def __init__(self, pod, pod_ip):
        super().__init__()
        self.pod_ip, self.server, self.folder = pod_ip, None, tempfile.TemporaryDirectory()
        self.forward = Kubectl(pod, [SSH_PORT])
        self.app = cpu.find_pod_process("testapp", pod)

    def file(self, name):
        return os.path.join(self.folder.name, name)

    def start(self):
        """sshd in the pod's network namespace, with keys made for this run."""
        for key in ("host", "user"):
            if not os.path.exists(self.file(key)):
                run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.file(key))
        os.makedirs("/run/sshd", exist_ok=True)
        self.server = subprocess.Popen(["nsenter", f"--net=/proc/{self.app}/ns/net", "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null",
                                        "-h", self.file("host"), "-p", str(SSH_PORT), "-o", "ListenAddress=127.0.0.1", "-o",
                                        f"AuthorizedKeysFile={self.file('user.pub')}", "-o", "StrictModes=no", "-o",
                                        "PermitRootLogin=prohibit-password", "-o", "PidFile=none"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait_until(lambda: f":{SSH_PORT} " in run("nsenter", f"--net=/proc/{self.app}/ns/net", "ss", "-Hltn"), 10):
            raise PathError("sshd did not start")
        self.forward.start()
        ssh = (f"ssh -i {self.file('user')} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR")
        self.spawn("sshuttle", "--method", "nft", "-e", ssh, "-r", f"root@127.0.0.1:{self.forward.local[SSH_PORT]}",
                   f"{self.pod_ip}/32")
        if not wait_until(lambda: "onnected to server" in self.said() or not self.is_alive(), 30) or not self.is_alive():
            raise PathError("sshuttle: " + self.said()[-300:])

    def ensure(self):
        if not self.is_alive():
            raise PathError("sshuttle ended: " + self.said()[-300:])

    def after_failure(self):
        pass

    def address(self, port):
        return f"{self.pod_ip}:{port}"

    def pids(self):
        return {"client": cpu.tree(self.process.pid) + [self.forward.process.pid], "agent": cpu.tree(self.server.pid)}

    def bytes_moved(self):
        return None

    def stop(self):
        self.end(10)
        self.forward.stop()
        if self.server is not None:
            for pid in cpu.tree(self.server.pid)[::-1]:
                try:
                    os.kill(pid, 15)
                except ProcessLookupError:
                    pass
            self.server.wait(10)
            self.server = None


class Wireguard:
    name = "wireguard-go"

    def __init__(self, program, pod_ip):
        self.program, self.pod_ip, self.ends = program, pod_ip, []

    def end(self, netns, device, address, key):
        process = subprocess.Popen(["ip", "netns", "exec", netns, self.program, "-f", device], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "LOG_LEVEL": "silent"})
        self.ends.append(process)
        if not wait_until(lambda: os.path.exists(f"/run/wireguard/{device}.sock"), 10):
            raise PathError("wireguard-go did not start")
        run("ip", "netns", "exec", netns, "wg", "set", device, "private-key", "/dev/stdin", text=key)
        run("ip", "-n", netns, "address", "add", address, "dev", device)
        run("ip", "-n", netns, "link", "set", device, "up")

    def start(self):
        laptop, node = os.environ["KT_LAPTOP"], os.environ["KT_NODE"]
        keys = [run("wg", "genkey") for _ in range(2)]
        public = [run("wg", "pubkey", text=key) for key in keys]
        self.end(laptop, "wgbench0", f"{WG_LAPTOP}/32", keys[0])
        self.end(node, "wgbench1", f"{WG_NODE}/32", keys[1])
        run("ip", "netns", "exec", node, "wg", "set", "wgbench1", "listen-port", str(WG_PORT), "peer", public[0], "allowed-ips",
            f"{WG_LAPTOP}/32")
        run("ip", "netns", "exec", laptop, "wg", "set", "wgbench0", "peer", public[1], "allowed-ips", f"{self.pod_ip}/32", "endpoint",
            f"{os.environ['KT_NODE_IP']}:{WG_PORT}")
        run("ip", "-n", laptop, "route", "add", self.pod_ip, "dev", "wgbench0", "src", WG_LAPTOP)
        run("ip", "-n", node, "route", "add", WG_LAPTOP, "dev", "wgbench1")

    def ensure(self):
        if any(process.poll() is not None for process in self.ends):
            raise PathError("wireguard-go ended")

    def after_failure(self):
        pass

    def address(self, port):
        return f"{self.pod_ip}:{port}"

    def pids(self):
        return {"client": [self.ends[0].pid], "agent": [self.ends[1].pid]}

    def bytes_moved(self):
        return device_bytes("wgbench0")

    def stop(self):
        for process in self.ends:
            process.terminate()
            process.wait(10)
        self.ends = []
