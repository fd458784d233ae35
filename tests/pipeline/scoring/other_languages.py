"""Tweets that were written for these tests: forty in French, forty in German."""

FRENCH = """\
Encore un train annulé ce matin, merci pour rien @user
Le marché de Noël ouvre vendredi sur la place de la mairie
Quel bonheur de retrouver mamie après deux ans sans se voir 😍
Franchement ce film m'a endormi au bout de vingt minutes
La réunion du conseil municipal est reportée à jeudi 18 h
Mon fils a marqué son premier but aujourd'hui, je suis trop fier !!
J'en peux plus de ce voisin qui perce des trous le dimanche
Nouvelle exposition au musée des beaux-arts jusqu'au 12 mars
Le café est froid, le croissant est sec, la journée commence bien 🙄
On a gagné on a gagné on a gagné 🎉🎉
Quelqu'un connaît un bon plombier du côté de Nantes ?
Les travaux de la ligne 4 dureront jusqu'à la fin du mois
Merci à tous pour vos messages, ça me touche énormément ❤️
Service client injoignable depuis trois jours, c'est honteux
Il pleut, je reste sous la couette avec un bon livre, le rêve
La boulangerie de la rue Pasteur sera fermée lundi et mardi
Jamais vu une équipe jouer aussi mal, c'est à pleurer
Le concert d'hier soir était magique, j'ai encore des frissons
Température prévue demain à Lyon : 14 degrés, ciel couvert
Ils ont perdu ma valise et ils me proposent un bon de 20 euros
Petit déjeuner face à la mer, que demander de plus
La conférence de presse commencera à dix heures
J'ai raté mon permis pour la troisième fois, je suis dégoûtée
Trop contente de mon nouveau vélo, il roule tout seul
Les inscriptions au tournoi de pétanque sont ouvertes
Cette mise à jour a tout cassé, bravo les génies
Bonne nuit les amis, demain est un autre jour 🌙
Le prix du beurre a encore augmenté, on se moque de nous
Ma fille vient de dire maman pour la première fois, je fonds
Le stade ouvrira ses portes deux heures avant le match
Impossible de dormir avec ces moustiques, je deviens folle
Le nouveau directeur prendra ses fonctions en septembre
Un grand bravo aux bénévoles, vous êtes formidables
Encore une coupure de courant, troisième fois cette semaine
La bibliothèque cherche des lecteurs pour le samedi matin
Le dessert était divin, merci chef !
Toujours pas remboursé, toujours pas de réponse, @user vous dormez ?
Le brouillard se lèvera en fin de matinée sur la vallée
Quelle belle surprise de vous croiser au marché ce matin
Les résultats seront publiés mercredi sur le site de la ville""".splitlines()

GERMAN = """\
Schon wieder Stau auf der A8, ich komme heute nicht mehr an
Der Wochenmarkt ist ab Samstag wieder auf dem Rathausplatz
Endlich Urlaub, die Koffer sind gepackt und die Sonne scheint 😍
So ein schlechtes Essen habe ich lange nicht mehr bekommen
Die Sitzung des Gemeinderats beginnt um 19 Uhr
Meine Tochter hat ihre Prüfung bestanden, ich platze vor Stolz!!
Der Nachbar mäht den Rasen um sieben Uhr früh, unfassbar
Das Museum zeigt bis Ende April Fotografien aus den Fünfzigern
Kaffee leer, Akku leer, Kopf leer, was für ein Montag 🙄
Wir haben gewonnen und die ganze Kneipe singt 🎉
Kennt jemand einen guten Zahnarzt in Freiburg?
Die Brücke bleibt wegen Bauarbeiten bis Oktober gesperrt
Danke für die vielen lieben Glückwünsche, ihr seid die Besten ❤️
Seit drei Wochen kein Internet und niemand fühlt sich zuständig
Ein ruhiger Abend mit Tee und Decke, mehr brauche ich nicht
Der Bäcker an der Ecke hat am Donnerstag geschlossen
Dieses Spiel war eine einzige Enttäuschung von Anfang bis Ende
Was für ein wunderschönes Konzert, ich habe immer noch Gänsehaut
Morgen in Hamburg bewölkt bei zwölf Grad
Paket angeblich zugestellt, aber hier ist nichts, @user bitte melden
Frühstück am See, besser kann ein Tag nicht anfangen
Die Pressekonferenz wird live übertragen
Zum dritten Mal durch die Fahrprüfung gefallen, ich gebe auf
Mein neues Fahrrad läuft wie von selbst, herrlich
Anmeldungen für das Schachturnier sind ab sofort möglich
Seit dem Update stürzt alles ab, vielen Dank auch
Gute Nacht zusammen, morgen wird ein besserer Tag 🌙
Die Butter kostet schon wieder mehr, eine Frechheit
Der Kleine hat heute seine ersten Schritte gemacht, so süß
Die Halle öffnet zwei Stunden vor dem Anpfiff
Bei dieser Hitze kann doch kein Mensch schlafen
Die neue Schulleiterin tritt ihr Amt im September an
Großes Lob an alle Helfer, das war einfach spitze
Schon wieder Stromausfall, das dritte Mal in dieser Woche
Die Bücherei sucht Vorleser für den Samstagvormittag
Der Kuchen war ein Traum, danke an die Küche!
Immer noch keine Antwort, immer noch kein Geld zurück
Der Nebel löst sich gegen Mittag im Tal auf
Wie schön, euch heute auf dem Markt zu treffen
Die Ergebnisse stehen ab Mittwoch auf der Seite der Stadt""".splitlines()
