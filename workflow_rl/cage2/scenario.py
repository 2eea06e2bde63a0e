"""Scenario2 of CAGE Challenge 2, stated as facts.

Thirteen hosts in three subnets; blue defends them, red starts on User0 and wants to stop the OTService of
Op_Server0, green does nothing. Both simulators are built from this module: `cyborg_scenario` writes it in the
form csle-cyborg reads, the native simulator turns it into tables. What happens when somebody acts is not
stated here: that is the simulators' part.

Source: CybORG 2.1 as released with the challenge, Scenario2.yaml and the host images it names. A test
compares these facts with those files, after csle-cyborg has parsed both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from workflow_rl.errors import SettingError
from workflow_rl.workflow import HostType

RED_AGENTS = ("B_lineAgent", "RedMeanderAgent", "SleepAgent")
"""The attackers: a direct script, a thorough explorer, and one that does nothing."""

MIXED_RED_AGENTS = RED_AGENTS[:2]
"""Those that a mixture is of."""

RED_MIXTURE = "mixture"
"""In the place of an attacker: one of those, each with the same chance."""

ALL_RED_AGENTS = "all-three"
"""In the place of an attacker: one of the three, with the shares .5, .45 and .05."""

RED_MIXTURES: Mapping[str, tuple[str, ...]] = {
    RED_MIXTURE: MIXED_RED_AGENTS,
    ALL_RED_AGENTS: 10 * RED_AGENTS[:1] + 9 * RED_AGENTS[1:2] + RED_AGENTS[2:],
}
"""What an episode's attacker is drawn from, each entry with the same chance (`seeding.attacker_draw`)."""

RED_AGENT_CHOICES = (*RED_AGENTS, *RED_MIXTURES)
"""What one can train against."""

OPPONENTS = (*RED_AGENTS, RED_MIXTURE)
"""What a policy that keeps to a workflow is scored against."""

NO_ACCESS, USER_ACCESS, PRIVILEGED_ACCESS = range(3)
"""Red's true hold on a host: no session, one as an ordinary user, one as root or SYSTEM."""


class OperatingSystem(Enum):
    """Ubuntu 18.04.3 or Windows Server 2008 (6.1.7601), both on x64."""

    LINUX = "linux"
    WINDOWS = "windows"


class ProcessKind(StrEnum):
    """What a process serves, which decides the exploits that look for it."""

    SSH = "ssh"
    WEBSERVER = "webserver"
    MYSQL = "mysql"
    SMTP = "smtp"
    SMB = "smb"
    RDP = "rdp"
    FEMITTER = "femitter"
    OTHER = "other"


class Level(Enum):
    """How much a host's confidentiality or availability is worth, in reward lost per step."""

    NONE = 0.0
    LOW = 0.1
    MEDIUM = 1.0
    HIGH = 10.0


@dataclass(frozen=True)
class Process:
    """A process that runs on a host when an episode starts.

    Attributes:
        ports: the ports it listens on, in the order a scan reports them.
        address: the local address it listens on.
        properties: weaknesses; "rfi" (remote file inclusion) is the only one in the scenario.
    """

    pid: int
    name: str
    user: str
    ports: tuple[int, ...] = ()
    kind: ProcessKind = ProcessKind.OTHER
    parent_pid: int = 1
    path: str | None = None
    version: str | None = None
    properties: tuple[str, ...] = ()
    address: str = "0.0.0.0"


@dataclass(frozen=True)
class Group:
    """A user group of an operating system."""

    name: str
    group_id: int


@dataclass(frozen=True)
class User:
    """An account on a host.

    Attributes:
        user_id: the number on Linux, the security identifier on Windows; None for SYSTEM.
        bruteforceable: whether red's SSHBruteForce finds the password.
    """

    name: str
    user_id: int | str | None = None
    group: Group | None = None
    password: str | None = None
    bruteforceable: bool = False


@dataclass(frozen=True)
class Service:
    """A service, run by one of the host's processes."""

    name: str
    pid: int


@dataclass(frozen=True)
class Image:
    """What is installed on a host. Hosts that share an image are alike in everything stated here.

    Attributes:
        processes: in the order in which an exploit looks for its victim.
    """

    operating_system: OperatingSystem
    processes: tuple[Process, ...]
    users: tuple[User, ...]
    services: tuple[Service, ...] = ()

    @property
    def bruteforceable_user(self) -> str | None:
        """The account SSHBruteForce gets into: the first with a guessable password."""
        return next((user.name for user in self.users if user.bruteforceable), None)


@dataclass(frozen=True)
class Host:
    """One of the thirteen machines.

    Attributes:
        confidentiality: what blue loses per step while red has a privileged session here.
        availability: what blue loses per step while a service of this host is stopped. Only Op_Server0 has
            one.
        reveals: hosts whose addresses red reads when it explores this host, itself included. The Defender
            reveals nothing.
    """

    name: str
    host_type: HostType
    image: Image
    confidentiality: Level
    availability: Level
    reveals: tuple[str, ...]

    @property
    def subnet(self) -> str:
        """The name of the subnet this host is in."""
        return next(subnet.name for subnet in SUBNETS if self.name in subnet.host_names)


@dataclass(frozen=True)
class Subnet:
    """A subnet and who may reach it.

    Attributes:
        host_names: in the order of their addresses, which is the order in which a ping sweep finds them.
        size: the size the address range is drawn for.
        closed_to: subnets from which red gets in only while it has a session on some Enterprise host.
    """

    name: str
    host_names: tuple[str, ...]
    size: int
    closed_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartingSession:
    """A session that an agent holds when an episode starts.

    Attributes:
        parent: name of the session it reports to, None for one that stands alone.
        artifacts: event logs that the session collects.
    """

    name: str
    kind: str
    host_name: str
    user: str
    parent: str | None = None
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agent:
    """One of the three sides.

    Attributes:
        actions: the kinds of action it may take, in the order of its action space.
        starting_sessions: in the order in which they are opened.
        known_hosts: the hosts whose name and addresses it knows from the start.
        knows_users: whether it knows their accounts too.
        adversary: the side whose gains are its losses.
    """

    name: str
    actions: tuple[str, ...]
    starting_sessions: tuple[StartingSession, ...]
    known_hosts: tuple[str, ...]
    knows_users: bool
    adversary: str | None = None


def _linux_user(name: str, user_id: int, password: str | None = None) -> User:
    """An account with a group of its own; one with a password is guessable."""
    return User(name, user_id, Group(name, user_id), password, bruteforceable=password is not None)


def _daemon(pid: int, path: str, name: str, user: str = "root", parent_pid: int = 1) -> Process:
    """A process that no agent can reach: it only occupies its process id."""
    return Process(pid, name, user, path=path, parent_pid=parent_pid)


_LINUX_USERS = (
    _linux_user("root", 0),
    _linux_user("www-data", 33),
    _linux_user("pi", 1001, password="raspberry"),
    _linux_user("ubuntu", 1000),
    _linux_user("GreenAgent", 1001),
)

_ADMINISTRATORS = Group("ADMINISTRATORS", 0)
_WINDOWS_DOMAIN = "S-1-5-21-1983491181-1743339912-3520046837"
_WINDOWS_USERS = (
    User("Administrator", f"{_WINDOWS_DOMAIN}-500", _ADMINISTRATORS),
    User("GreenAgent", f"{_WINDOWS_DOMAIN}-1019"),
    User("vagrant", f"{_WINDOWS_DOMAIN}-1000", _ADMINISTRATORS, password="vagrant", bruteforceable=True),
    User("SYSTEM"),
)

_LINUX_SSHD = Process(1091, "sshd", "root", (22,), ProcessKind.SSH, path="/usr/sbin")
_WINDOWS_SSHD = Process(
    3368,
    "sshd.exe",
    "sshd_server",
    (22,),
    ProcessKind.SSH,
    parent_pid=5956,
    path=r"C:\Program Files\OpenSSH\usr\sbin",
)
_FEMITTER = Process(
    3344,
    "femitter.exe",
    "SYSTEM",
    (21,),
    ProcessKind.FEMITTER,
    parent_pid=5566,
    path=r"C:\Program Files\Femitter",
)
_RPC = Process(832, "svchost.exe", "SYSTEM", (135,), parent_pid=4)
_TOMCAT = Process(
    3404, "tomcat8.exe", "NetworkService", (80, 443), ProcessKind.WEBSERVER, parent_pid=4, properties=("rfi",)
)
_SMTP = Process(1102, "smtp", "root", (25,), ProcessKind.SMTP, path="/usr/sbin", version="haraka 2.7.0")


def _apache(port: int) -> Process:
    """One of apache's two entries, which share a process id."""
    return Process(
        1100, "apache2", "www-data", (port,), ProcessKind.WEBSERVER, path="/usr/sbin", properties=("rfi",)
    )


def _mysql(port: int) -> Process:
    """The database; SQLInjection asks for it on port 3390."""
    return Process(1101, "mysql", "root", (port,), ProcessKind.MYSQL, path="/etc/init.d")


def _remote_desktop(user: str) -> Process:
    """The remote desktop, whose user is whom BlueKeep becomes."""
    return Process(4400, "svchost.exe", user, (3389,), ProcessKind.RDP, parent_pid=4)


def _file_sharing(kind: ProcessKind) -> Process:
    """The session manager on the SMB ports; EternalBlue works only where it is of the SMB kind."""
    return Process(4, "smss.exe", "SYSTEM", (445, 139), kind, parent_pid=372)


_DEFENDER_IMAGE = Image(
    OperatingSystem.LINUX,
    processes=(
        _daemon(1, "/sbin", "init", parent_pid=0),
        _daemon(389, "/lib/systemd", "systemd-journald"),
        _daemon(407, "/lib/systemd", "systemd-udevd"),
        _daemon(409, "/sbin", "lvmetad"),
        _daemon(560, "/lib/systemd", "systemd-timesyncd", "systemd+"),
        _daemon(790, "/usr/lib/accountsservice", "accounts-daemon"),
        _daemon(802, "/usr/sbin", "atd", "daemon"),
        _daemon(803, "/bin", "bash", "velocir+"),
        _daemon(807, "/usr/sbin", "rsyslogd", "syslog"),
        _daemon(824, "/usr/sbin", "acpid"),
        _daemon(825, "/usr/lib/snapd", "snapd"),
        _daemon(827, "/usr/bin", "dbus-daemon", "message+"),
        _daemon(832, "/usr/local/bin", "velociraptor.bin", "velocir+", parent_pid=803),
        _daemon(844, "/usr/sbin", "cron"),
        _daemon(847, "/lib/systemd", "systemd-logind"),
        _daemon(852, "/usr/bin", "python3"),
        _daemon(853, "/usr/bin", "lxcfs"),
        _daemon(863, "/usr/lib/policykit-1", "polkitd"),
        _daemon(867, "/usr/bin", "python3"),
        _daemon(875, "/sbin", "agetty"),
        _daemon(884, "/sbin", "agetty"),
        _daemon(1370, "/usr/bin", "python3"),
        _daemon(1432, "/lib/systemd", "systemd-hostnamed"),
        Process(2288, "sshd", "root", kind=ProcessKind.SSH, parent_pid=879),
        Process(879, "sshd", "root", (22,), ProcessKind.SSH, path="/usr/sbin"),
        Process(656, "systemd-resolved", "systemd+", (53, 53), path="/lib/systemd", address="127.0.0.53"),
        Process(634, "systemd-networkd", "systemd+", (68,), path="/lib/systemd", address="10.0.11.88"),
    ),
    users=(_linux_user("root", 0), _linux_user("ubuntu", 1000)),
)
_GATEWAY_IMAGE = Image(OperatingSystem.LINUX, (_LINUX_SSHD,), _LINUX_USERS)
_INTERNAL_IMAGE = Image(
    OperatingSystem.WINDOWS,
    (_WINDOWS_SSHD, _RPC, _remote_desktop("SYSTEM"), _file_sharing(ProcessKind.OTHER), _TOMCAT),
    _WINDOWS_USERS,
)
_OP_SERVER_IMAGE = Image(
    OperatingSystem.LINUX,
    (_LINUX_SSHD, _daemon(1043, "/root", "OTService")),
    _LINUX_USERS,
    services=(Service("OTService", pid=1043),),
)
_FTP_USER_IMAGE = Image(OperatingSystem.WINDOWS, (_WINDOWS_SSHD, _FEMITTER), _WINDOWS_USERS)
_DESKTOP_USER_IMAGE = Image(
    OperatingSystem.WINDOWS,
    (_file_sharing(ProcessKind.SMB), _RPC, _remote_desktop("NetworkService")),
    _WINDOWS_USERS,
)
# On User3 the database listens on the port of Windows' remote desktop: red tries BlueKeep there, in vain.
_MAIL_USER_IMAGE = Image(
    OperatingSystem.LINUX, (_apache(80), _mysql(3389), _apache(443), _SMTP), _LINUX_USERS
)
_DATABASE_USER_IMAGE = Image(
    OperatingSystem.LINUX, (_LINUX_SSHD, _apache(80), _mysql(3390), _apache(443), _SMTP), _LINUX_USERS
)


def _enterprise_host(name: str, image: Image, reveals: tuple[str, ...] = ()) -> Host:
    return Host(name, HostType.ENTERPRISE, image, Level.MEDIUM, Level.MEDIUM, (name, *reveals))


def _operational_host(name: str) -> Host:
    return Host(name, HostType.OP_HOST, _GATEWAY_IMAGE, Level.LOW, Level.LOW, (name,))


def _user_host(name: str, image: Image, reveals: str) -> Host:
    return Host(name, HostType.USER, image, Level.LOW, Level.NONE, (name, reveals))


HOSTS: tuple[Host, ...] = (
    Host("Defender", HostType.DEFENDER, _DEFENDER_IMAGE, Level.LOW, Level.LOW, reveals=()),
    _enterprise_host("Enterprise0", _GATEWAY_IMAGE),
    _enterprise_host("Enterprise1", _INTERNAL_IMAGE),
    _enterprise_host("Enterprise2", _INTERNAL_IMAGE, reveals=("Op_Server0",)),
    _operational_host("Op_Host0"),
    _operational_host("Op_Host1"),
    _operational_host("Op_Host2"),
    Host("Op_Server0", HostType.OP_SERVER, _OP_SERVER_IMAGE, Level.MEDIUM, Level.HIGH, ("Op_Server0",)),
    Host("User0", HostType.USER, _FTP_USER_IMAGE, Level.NONE, Level.NONE, ("User0",)),
    _user_host("User1", _FTP_USER_IMAGE, reveals="Enterprise1"),
    _user_host("User2", _DESKTOP_USER_IMAGE, reveals="Enterprise1"),
    _user_host("User3", _MAIL_USER_IMAGE, reveals="Enterprise0"),
    _user_host("User4", _DATABASE_USER_IMAGE, reveals="Enterprise0"),
)
"""The hosts, in the order in which observations and actions number them."""

HOST_NAMES: tuple[str, ...] = tuple(host.name for host in HOSTS)
HOST_TYPES: tuple[HostType, ...] = tuple(host.host_type for host in HOSTS)
NUM_HOSTS = len(HOSTS)

SUBNETS: tuple[Subnet, ...] = (
    Subnet("Enterprise", ("Enterprise0", "Enterprise1", "Enterprise2", "Defender"), size=3),
    Subnet("Operational", ("Op_Server0", "Op_Host0", "Op_Host1", "Op_Host2"), size=4, closed_to=("User",)),
    Subnet("User", ("User0", "User1", "User2", "User3", "User4"), size=5),
)
"""The subnets, in the order in which their addresses are drawn."""

GLOBAL_ACTIONS = ("Sleep", "Monitor")
"""Blue's actions without a target."""

HOST_ACTIONS = (
    "Analyse",
    "Remove",
    "DecoyApache",
    "DecoyFemitter",
    "DecoyHarakaSMPT",
    "DecoySmss",
    "DecoySSHD",
    "DecoySvchost",
    "DecoyTomcat",
    "DecoyVsftpd",
    "Restore",
)
"""Blue's actions on one host."""

ACTION_NAMES: tuple[str, ...] = (
    *GLOBAL_ACTIONS,
    *(f"{kind} {host_name}" for kind in HOST_ACTIONS for host_name in HOST_NAMES),
)
"""What each of blue's actions 0..144 does, e.g. "Sleep" or "Restore User4"."""

NUM_ACTIONS = len(ACTION_NAMES)

NUM_OBSERVATION_BITS = 4 * NUM_HOSTS
"""Four bits a host: two for the activity seen in this step, two for what blue believes of its compromise."""


def action_index(kind: str, host_name: str | None = None) -> int:
    """The number of one of blue's actions.

    Args:
        kind: one of `GLOBAL_ACTIONS` or `HOST_ACTIONS`.
        host_name: the target, one of `HOST_NAMES`; None for a global action.

    Returns:
        The position in `ACTION_NAMES`, 0..144.

    Raises:
        SettingError: there is no such action.
    """
    name = kind if host_name is None else f"{kind} {host_name}"
    try:
        return ACTION_NAMES.index(name)
    except ValueError:
        raise SettingError(
            f"no action {name!r}: expected {' or '.join(GLOBAL_ACTIONS)}, or one of "
            f"{', '.join(HOST_ACTIONS)} with one of {', '.join(HOST_NAMES)}"
        ) from None


def _velociraptor_client(host_name: str, user: str = "ubuntu") -> StartingSession:
    """Blue's foothold on a host, reporting to the server on the Defender."""
    return StartingSession(f"Velo{host_name}", "VelociraptorClient", host_name, user, parent="VeloServer")


def _green_session(host_name: str) -> StartingSession:
    return StartingSession("GreenSession", "green_session", host_name, "GreenAgent")


BLUE = Agent(
    "Blue",
    actions=(*GLOBAL_ACTIONS, *HOST_ACTIONS),
    starting_sessions=(
        *(_velociraptor_client(f"User{i}") for i in range(5)),
        _velociraptor_client("Enterprise0"),
        _velociraptor_client("Enterprise1", user="SYSTEM"),
        _velociraptor_client("Enterprise2", user="SYSTEM"),
        _velociraptor_client("Defender"),
        _velociraptor_client("Op_Server0"),
        *(_velociraptor_client(f"Op_Host{i}") for i in range(3)),
        StartingSession(
            "VeloServer",
            "VelociraptorServer",
            "Defender",
            "ubuntu",
            artifacts=("NetworkConnections", "ProcessCreation"),
        ),
    ),
    known_hosts=HOST_NAMES,
    knows_users=True,
    adversary="Red",
)
GREEN = Agent(
    "Green",
    actions=("Sleep", "GreenPingSweep", "GreenPortScan", "GreenConnection"),
    starting_sessions=(
        *(_green_session(f"User{i}") for i in range(5)),
        *(_green_session(f"Op_Host{i}") for i in range(3)),
    ),
    known_hosts=HOST_NAMES,
    knows_users=True,
)
RED = Agent(
    "Red",
    actions=(
        "Sleep",
        "DiscoverRemoteSystems",
        "DiscoverNetworkServices",
        "ExploitRemoteService",
        "BlueKeep",
        "EternalBlue",
        "FTPDirectoryTraversal",
        "HarakaRCE",
        "HTTPRFI",
        "HTTPSRFI",
        "SQLInjection",
        "PrivilegeEscalate",
        "Impact",
        "SSHBruteForce",
    ),
    starting_sessions=(StartingSession("RedPhish", "RedAbstractSession", "User0", "SYSTEM"),),
    known_hosts=("User0",),
    knows_users=False,
)
AGENTS: tuple[Agent, ...] = (BLUE, GREEN, RED)
"""The sides, in the order in which they act within a step."""
