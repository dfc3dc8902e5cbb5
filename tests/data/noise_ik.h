/* Public test vectors of Noise_IK_25519_ChaChaPoly_BLAKE2b, from cacophony (vectors/cacophony.txt, public domain). */
#ifndef KTVPN_TESTS_NOISE_IK_H
#define KTVPN_TESTS_NOISE_IK_H

struct noise_ik_vector {
    const char *prologue, *init_static, *init_ephemeral, *resp_static, *resp_ephemeral, *handshake_hash;
    int messages;
    const char *payload[8], *ciphertext[8];
};

static const struct noise_ik_vector noise_ik_vectors[] = {
    {
        .prologue = "4a6f686e2047616c74",
        .init_static = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        .init_ephemeral = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        .resp_static = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        .resp_ephemeral = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        .handshake_hash = "1c8fa891cb414fedba6daa7c6f4ae0a6d98e5f9768cc9cecd27e805614943ee9c8a1b27fbfb76dc197255c8aa69f"
                          "6b4285c423840b8bedf45e652ca64f797d81",
        .messages = 6,
        .payload = {"4c756477696720766f6e204d69736573", "4d757272617920526f746862617264", "462e20412e20486179656b",
                    "4361726c204d656e676572", "4a65616e2d426170746973746520536179",
                    "457567656e2042f6686d20766f6e2042617765726b"},
        .ciphertext = {"ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944ba83a447b38c83e327ad936929812f6"
                       "24884847b7831e95e197b2f797088efdd2f88f1db7e1fb0e99c64419097af91cee64e470f4b6fcd9298ce0b56fe20f8"
                       "6e13bf70439c538e3602a7127af71a29cc",
                       "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088439f069b267a06b3de3ecb1043bcb098e"
                       "9af91d9c64748d998c7b47890871571",
                       "cd54383060e7a28434cca27fb1cc524cfbabeb18181589df219d07",
                       "a856d3bf0246bfc476c655009cd1ed677b8dcc5b349ae8ef2a05f2",
                       "49063084b2c51f098337cb8a13739ac848f907e67cfb2cc8a8b60586467aa02fc7",
                       "8b9709d23b47e4639df7678d7a21741eba4ef1e9c60383001c7435549c20f9d56f30e935d3"},
    },
};

#endif
